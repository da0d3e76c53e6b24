"""The step that writes a graph with its tokenizer beside the model's own."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from bertrt.errors import ExportError
from bertrt.export.heads import Head
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

__all__ = ["TEXT_GRAPH", "check_text_graph_wish", "write_text_graph"]

TEXT_GRAPH = "model_text.onnx"

# Heads whose input is a text or a pair, without a [MASK], which the operator would split.
_TASKS = (
    "feature-extraction",
    "text-classification",
    "next-sentence-prediction",
    "token-classification",
    "question-answering",
)
_PAIRS = (("The cat sat on the mat.", "It slept."), ("Sugar", "Plants make oxygen and sugar."))

_log = logging.getLogger(__name__)


def check_text_graph_wish(head: Head, device: str) -> None:
    """Raise ExportError where no graph can take text, before the long work."""
    if head.task not in _TASKS or device not in ("cpu", "any"):
        raise ExportError(
            f"--with-tokenizer is for {', '.join(_TASKS)} on cpu, not for {head.task} on {device}: "
            "leave it out"
        )
    custom_operators()


def write_text_graph(model: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Write `TEXT_GRAPH` beside a model's graph, whose weights it shares where they are a file.

    Args:
        model: the graph's file, in a directory with its tokenizer.json.
        tokenizer: what that holds.

    Returns for the manifest its file, and on which of the held-out and hard texts it splits
    otherwise than the tokenizer: it is a different implementation. They are told in a warning.

    Raises ExportError for a tokenizer that is no BERT WordPiece, and ParityError when the graph's
    answers are not the model's.
    """
    state = json.loads((model.parent / "tokenizer.json").read_text(encoding="utf-8"))
    front = tokenizer_graph(tokenizer_attributes(state, tokenizer), tokenizer.facts)
    parity = compare_tokens(front, tokenizer, [*HARD, *heldout_texts()])
    graph = model.with_name(TEXT_GRAPH)
    joined = with_tokenizer(onnx.load(model, load_external_data=False), front)
    graph.write_bytes(joined.SerializeToString())
    check_answers(graph, model, tokenizer, _PAIRS)
    if parity.different:
        _log.warning(
            "the tokenizer in %s splits %d of %d texts otherwise than the checkpoint's, such as %s",
            TEXT_GRAPH,
            parity.different,
            parity.compared,
            ", ".join(repr(text) for text in parity.examples),
        )
    return {"file": TEXT_GRAPH, **asdict(parity)}
