"""The options of `bertrt embed` that are options of `Runtime.embed`, and errors that name them."""

import argparse
import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertrt.cli.arguments import whole
from bertrt.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "OTHER_OPTIONS",
    "PRECISIONS",
    "add_embed_options",
    "read_embed_options",
    "spell",
    "spelled_options",
]

# Those of the runtime, without importing it; a test compares them.
PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_NAMES = (
    "prompt",
    "prompt_name",
    "pooling",
    "normalize",
    "dimensions",
    "truncation",
    "max_length",
    "truncation_side",
    "precision",
    "ranges",
)
# Those of the tasks whose vectors are not arrays of one row a text.
OTHER_OPTIONS = {
    "sparse-embedding": {"prompt", "prompt_name", "truncation", "max_length", "truncation_side"},
    "multi-vector-embedding": {"truncation", "max_length", "truncation_side"},
}
# A name of an option that is not in quotes.
_NAME = re.compile(rf"'[^']*'|\b({'|'.join(_NAMES)})\b")


def add_embed_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; an option that is not given is None, for what the model's files say."""
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", metavar="P", help="what to put before each text")
    prompts.add_argument(
        "--prompt-name",
        metavar="NAME",
        help="the model's prompt to put there (default: the model's default one, if it has one)",
    )
    for kind, texts in (("query", "queries"), ("document", "documents")):
        prompts.add_argument(
            f"--{kind}",
            action="store_const",
            const=kind,
            dest="kind",
            help=f"put the model's prompt for {texts} there",
        )
    parser.add_argument(
        "--pooling",
        metavar="NAME,…",
        type=lambda text: text.split(","),
        help="how tokens become a vector: mean, cls, max, pooler, mean_sqrt_len_tokens, "
        "weightedmean or lasttoken; the vectors of several are joined (default: the model's)",
    )
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="whether to scale each vector to length 1 (default: as the model does)",
    )
    parser.add_argument(
        "--dimensions",
        metavar="N",
        type=whole,
        help="keep the first N dimensions, before scaling (default: the model's)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="the vectors' precision: a byte (int8, uint8) or a bit (binary, ubinary) for each "
        "number, as sentence-transformers quantizes them (default: float32)",
    )
    parser.add_argument(
        "--ranges",
        metavar="FILE",
        type=Path,
        help="for int8 and uint8, an .npy file with the minimum and the maximum of each "
        "dimension, [2, H]",
    )
    parser.add_argument(
        "--max-length", metavar="N", type=whole, help="the limit in tokens (default: the model's)"
    )
    parser.add_argument(
        "--truncation-side",
        choices=("left", "right"),
        help="the side that is cut (default: the tokenizer's own)",
    )
    parser.add_argument(
        "--truncation",
        action=argparse.BooleanOptionalAction,
        help="whether to cut a text that is too long, or to refuse it (default: cut it if the "
        "model has files of sentence-transformers)",
    )


def read_embed_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, as `Runtime.embed` takes them.

    Raises InputError for int8 and uint8 without `--ranges`, for `--ranges` without these, and for a
    file that has no array.
    """
    options = {name: getattr(arguments, name) for name in _NAMES}
    options = {name: value for name, value in options.items() if value is not None}
    if arguments.precision in ("int8", "uint8"):
        if arguments.ranges is None:
            raise InputError(
                f"--precision {arguments.precision} needs --ranges FILE: an .npy file with the "
                "minimum and the maximum of each dimension, [2, H]"
            )
        options["ranges"] = _read_array(arguments.ranges)
    elif arguments.ranges is not None:
        raise InputError("--ranges is for --precision int8 and uint8: give one of them")
    return options


def _read_array(path: Path) -> "np.ndarray":
    import numpy as np

    with path.open("rb") as file:
        try:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise InputError(
                f"--ranges {str(path)!r} is not an .npy file of numbers ({error}): write one with "
                "numpy.save"
            ) from error
    return array


@contextlib.contextmanager
def spelled_options() -> Iterator[None]:
    """Raise an InputError about options with their names as the command takes them."""
    try:
        yield
    except InputError as error:
        problem = _NAME.sub(lambda match: _flag(match[1]) if match[1] else match[0], error.problem)
        raise InputError(spell(InputError(problem, **error.options))) from error


def spell(error: InputError) -> str:
    """Return an error's message, with the options that it advises as the command takes them."""
    return " ".join([error.problem, *(_spell(*option) for option in error.options.items())])


def _spell(name: str, value: Any) -> str:
    if name not in _NAMES:  # an option of another task
        return f"-o {shlex.quote(f'{name}={value}')}"
    if isinstance(value, bool):
        return _flag(name if value else f"no_{name}")
    return f"{_flag(name)} {shlex.quote(str(value))}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
