"""How near a graph's tokenizer is to the checkpoint's, and whether its answers are the model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from bertrt.errors import ExportError, ParityError
from bertrt.tokenizer import Tokenizer, pad

__all__ = ["TextParity", "check_answers", "compare_tokens", "custom_operators"]

# What BERT's tokenizers are known to treat differently: accents as signs of their own, letters
# that lower-case to two, control characters, special tokens inside a text, words too long to split.
HARD = (
    "",
    " ",
    "Café NAÏVE, don't! 3.14%",
    "cafe\u0301 combining",
    "中国人 한국어 🙂 e\u0301\u200b",
    "İstanbul ẞ ß straße",
    "control\x00chars\x07here",
    "\ufeffbyte order mark",
    "zero\u200bwidth soft\u00adhyphen nbsp\u00a0space",
    "[CLS] special [SEP] inside [MASK]",
    "a" * 101,
    "snake_case, user@example.com; http://example.com/?a=b",
)
# The same operators in another session, which may fuse them otherwise.
_BOUND = 1e-4
_EXAMPLES = 5


@dataclass(frozen=True)
class TextParity:
    """On how many texts the graph's tokenizer was compared, and on which it differs (a few)."""

    compared: int
    different: int
    examples: tuple[str, ...]


def custom_operators() -> str:
    """The library with the operator; raises ExportError when it is not installed."""
    try:
        from onnxruntime_extensions import get_library_path
    except ImportError as error:
        raise ExportError(
            f"--with-tokenizer needs onnxruntime-extensions, which cannot be imported ({error}): "
            "install it with pip install 'bertrt[text]'"
        ) from error
    return str(get_library_path())


def compare_tokens(
    front: onnx.ModelProto, tokenizer: Tokenizer, texts: Sequence[str]
) -> TextParity:
    """Split texts by the graph and by the checkpoint's tokenizer, cut to the model's length."""
    session = _open(front.SerializeToString())
    different = []
    for text in texts:
        (ids,) = session.run(["input_ids"], {"text": np.array([text], object)})
        if ids[0].tolist() != tokenizer.encode(text, truncation=True).ids:
            different.append(text)
    return TextParity(len(texts), len(different), tuple(different[:_EXAMPLES]))


def check_answers(
    graph: Path, model: Path, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]
) -> None:
    """Run the joined graph on pairs of texts, and the model on the arrays that it made of them.

    Raises ParityError where their outputs differ by more than 1e-4, where it pads otherwise than
    the checkpoint's tokenizer does, or where a text differs by its company.
    """
    first, second = (np.array(list(side), object) for side in zip(*pairs, strict=True))
    joined, plain = _open(str(graph)), _open(str(model))
    for feeds in ({"text": first}, {"text": first, "text_pair": second}):
        names = [one.name for one in joined.get_outputs()]
        outputs = dict(zip(names, joined.run(names, feeds), strict=True))
        encodings = [
            tokenizer.encode(*parts, truncation=True) for parts in zip(*feeds.values(), strict=True)
        ]
        arrays = pad(encodings, tokenizer.pad_id)
        for name, array in arrays.items():
            if not np.array_equal(outputs[name], array):
                raise ParityError(f"the graph with the tokenizer gives another {name}: {feeds}")
        for one in plain.get_outputs():
            (expected,) = plain.run([one.name], arrays)
            error = float(np.abs(outputs[one.name] - expected).max())
            if not error <= _BOUND:
                raise ParityError(
                    f"the graph with the tokenizer is {error:.3g} away from the model in {one.name}"
                )


def _open(graph: str | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    # It warns of each input with a default.
    options.log_severity_level = 3
    options.register_custom_ops_library(custom_operators())
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
