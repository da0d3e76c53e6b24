"""Compare a text graph's tokenizer with the checkpoint's, and its answers with the model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from bertrt.errors import ExportError, ParityError
from bertrt.tokenizer import Tokenizer
from bertrt.tokens import pad

__all__ = ["TextParity", "check_answers", "compare_tokens", "custom_operators"]

# Texts that BERT's tokenizers are known to split differently: combining accents, letters that
# lower-case to two, control characters, special tokens inside a text, words too long to split.
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
# The operators are the same, but another session may fuse them differently: the answers differ by
# this or, where the values are large, by this many float32 steps of the largest.
_BOUND = 1e-4
_STEPS = 64
_INSTEAD = "export without --with-tokenizer, and report this error"
_EXAMPLES = 5


@dataclass(frozen=True)
class TextParity:
    """The number of texts that were compared and that differ, and a few of those that differ."""

    compared: int
    different: int
    examples: tuple[str, ...]


def custom_operators() -> str:
    """Return the path of the operator's library; raises ExportError if it is not installed."""
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
    """Split texts by the graph and by the checkpoint's tokenizer, truncated for the model."""
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
    """Run the text graph on texts and pairs, and the model on the checkpoint tokenizer's arrays.

    Raises ParityError if their outputs differ by more than 1e-4 and 64 float32 steps of the largest
    value, or if the text graph's arrays differ from those of the checkpoint's tokenizer.
    """
    first, second = (np.array(list(side), object) for side in zip(*pairs, strict=True))
    joined, plain = _open(str(graph)), _open(str(model))
    for inputs in ({"text": first}, {"text": first, "text_pair": second}):
        names = [value.name for value in joined.get_outputs()]
        outputs = dict(zip(names, joined.run(names, inputs), strict=True))
        encodings = [
            tokenizer.encode(*texts, truncation=True)
            for texts in zip(*inputs.values(), strict=True)
        ]
        arrays = pad(encodings, tokenizer.pad_id)
        for name, array in arrays.items():
            if not np.array_equal(outputs[name], array):
                raise ParityError(
                    f"the graph with the tokenizer gives a different {name} for {inputs}: "
                    f"{_INSTEAD}"
                )
        for name in [value.name for value in plain.get_outputs()]:
            (expected,) = plain.run([name], arrays)
            error = float(np.abs(outputs[name] - expected).max())
            bound = max(_BOUND, _STEPS * float(np.spacing(np.abs(expected).max())))
            if not error <= bound:
                raise ParityError(
                    f"{name} of the graph with the tokenizer differs from the model's by "
                    f"{error:.3g}, and at most {bound:.3g} is allowed: {_INSTEAD}"
                )


def _open(graph: str | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    # Errors only: it warns about each input with a default.
    options.log_severity_level = 3
    options.register_custom_ops_library(custom_operators())
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
