"""Write a graph that takes text beside the model's graph."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from bertrt.errors import ExportError
from bertrt.export.heads import HeadSpec
from bertrt.export.quantize.texts import heldout_texts
from bertrt.export.tokenizer.text_graph.attributes import tokenizer_attributes
from bertrt.export.tokenizer.text_graph.build import tokenizer_graph, with_tokenizer
from bertrt.export.tokenizer.text_graph.check import (
    HARD,
    check_answers,
    compare_tokens,
    custom_operators,
)
from bertrt.tokenizer import Tokenizer

__all__ = ["TEXT_GRAPH", "check_text_graph_options", "write_text_graph"]

TEXT_GRAPH = "model_text.onnx"

# Tasks whose input is a text or a pair, without [MASK], which the operator would split.
_TASKS = (
    "feature-extraction",
    "text-classification",
    "next-sentence-prediction",
    "token-classification",
    "question-answering",
)
_PAIRS = (("The cat sat on the mat.", "It slept."), ("Sugar", "Plants make oxygen and sugar."))

_log = logging.getLogger(__name__)


def check_text_graph_options(head: HeadSpec, device: str) -> None:
    """Raise ExportError if the graph cannot take text. Call this before the long work."""
    if head.task not in _TASKS or device not in ("cpu", "any"):
        raise ExportError(
            f"--with-tokenizer is for {', '.join(_TASKS)} on cpu, not for {head.task} on {device}: "
            "leave it out"
        )
    custom_operators()


def write_text_graph(model: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Write `TEXT_GRAPH` beside a model's graph; they share weights that are in a file.

    Its tokenizer is another implementation than the checkpoint's, and may split some texts
    differently. A few of those among the held-out and hard texts are logged in a warning.

    Args:
        model: the graph's file, in a directory with its tokenizer.json.
        tokenizer: that tokenizer.

    Returns the file's name and the comparison of the tokenizers, for the manifest.

    Raises ExportError for a tokenizer that is not BERT's WordPiece, and ParityError if the graph's
    answers differ from the model's.
    """
    state = json.loads((model.parent / "tokenizer.json").read_text(encoding="utf-8"))
    front = tokenizer_graph(tokenizer_attributes(state, tokenizer), tokenizer)
    parity = compare_tokens(front, tokenizer, [*HARD, *heldout_texts()])
    graph = model.with_name(TEXT_GRAPH)
    joined = with_tokenizer(onnx.load(model, load_external_data=False), front)
    graph.write_bytes(joined.SerializeToString())
    check_answers(graph, model, tokenizer, _PAIRS)
    if parity.different:
        _log.warning(
            "the tokenizer in %s splits %d of %d texts differently than the checkpoint's: %s",
            TEXT_GRAPH,
            parity.different,
            parity.compared,
            ", ".join(repr(text) for text in parity.examples),
        )
    return {"file": TEXT_GRAPH, **asdict(parity)}
