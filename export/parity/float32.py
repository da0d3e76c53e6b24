"""The parity gate: a graph is an export only if it gives the checkpoint's own answers.

The graph runs as it will be shipped, in the runtime's own session. The reference is the float32
transformers model with its own forward pass, not the one that was traced.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertrt.errors import ParityError
from bertrt.export.heads import Head
from bertrt.export.parity.comparison import Comparison, OutputParity
from bertrt.export.parity.harness import (
    Arrays,
    GraphSession,
    all_feeds,
    open_session,
    promised,
    run_graph,
    run_model,
)
from bertrt.export.parity.optional_paths import optional_paths
from bertrt.export.tracing.trace import has_cache
from bertrt.export.tracing.traceable_forward import base_model

__all__ = ["OutputParity", "ParityReport", "check_parity"]


@dataclass(frozen=True)
class ParityReport:
    """The shapes that were run, and each output's worst case over all of them.

    A shape is written BxS, BxCxS for multiple choice, or BxP+S for S tokens after P cached ones.
    `dataclasses.asdict` makes it ready for JSON.
    """

    shapes: tuple[str, ...]
    outputs: tuple[OutputParity, ...]


def check_parity(
    model: torch.nn.Module,
    head: Head,
    *graphs: Path,
    bound: float = 1e-4,
    optimization_level: str,
    engine: str = "ort",
    cached: bool = True,
    mask_id: int | None = None,
    internals: Sequence[str] = (),
) -> ParityReport:
    """Run graphs and the model on the same arrays and compare every output.

    What the graph can do beside the model, its optional inputs and outputs, is compared with the
    model's answers too: see `bertrt.export.parity.optional_paths`.

    Args:
        model: the checkpoint, float32, in eval mode, with eager attention.
        head: which head it is.
        graphs: the ONNX files, of which each has to give the model's answers.
        bound: the largest absolute difference allowed on any position that is not padding.
        optimization_level: how far ONNX Runtime optimizes: the `OPTIMIZATION_LEVEL` of the target.
        engine: "ort" runs the graph in ONNX Runtime on the CPU, "triton" by the dialect's
            references.
        cached: whether a decoder's graph has a key/value cache.
        mask_id: the mask token's id, if any: some of the ids are then it.
        internals: the outputs that show the model's inside.

    The shapes are 1x1, 1x7, 1x24, 3x33 with ragged rows, and two rows of the longest sequence, one
    of them padded. A decoder also runs each in two steps, the second on the first one's cache.

    Raises ParityError, which names the output, the shape and the value, when the graph does not
    run, gives another shape or a number that is not finite, or is further off than the bound.
    """
    sessions = [open_session(graph, engine, optimization_level) for graph in graphs]
    cached = cached and has_cache(model, head)
    comparisons: dict[str, Comparison] = {}
    shapes: dict[str, None] = {}
    try:
        for feeds in all_feeds(model, head, mask_id):
            reference = run_model(model, head, feeds, internals)
            for session in sessions:
                answers = _answers(
                    session, model, head, feeds, reference, cached, mask_id, internals
                )
                for one in answers:
                    shapes[one.shape] = None
                    comparison = comparisons.setdefault(one.name, Comparison(one.name, bound))
                    comparison.add(one.value, one.expected, one.valid, one.shape)
    finally:
        for session in sessions:
            session.close()
    return ParityReport(tuple(shapes), tuple(one.result() for one in comparisons.values()))


@dataclass(frozen=True)
class _Answer:
    """An output of a graph, what it should be, and at which positions something was promised."""

    name: str
    value: np.ndarray
    expected: np.ndarray
    valid: np.ndarray
    shape: str


def _answers(
    session: GraphSession,
    model: torch.nn.Module,
    head: Head,
    feeds: Arrays,
    reference: Arrays,
    cached: bool,
    mask_id: int | None,
    internals: Sequence[str],
) -> Iterator[_Answer]:
    """All that a graph answers to these arrays, with what it can do beside the model."""
    shape = "x".join(str(size) for size in feeds["input_ids"].shape)
    for label, answer in _run_graph(session, model, feeds, shape, cached):
        for name, expected in reference.items():
            if name in internals and "+" in label:
                continue  # of the tokens of one step each
            if name not in answer:
                raise ParityError(f"the graph has no output {name}, only {list(answer)}")
            valid = promised(head, name, feeds["attention_mask"], expected)
            yield _Answer(name, answer[name], expected, valid, label)
    names = session.inputs_with_defaults()
    for path in optional_paths(names, set(answer), feeds, reference, mask_id):
        answer = run_graph(session, feeds | path.feeds, shape) if path.feeds else answer
        for name, expected in path.expected.items():
            full = f"{name} ({path.name})" if path.name else name
            everywhere = np.ones(expected.shape, bool)
            yield _Answer(full, answer[name], expected, everywhere, shape)


def _run_graph(
    session: GraphSession, model: torch.nn.Module, feeds: Arrays, shape: str, cached: bool
) -> Iterator[tuple[str, Arrays]]:
    """The graph's answers to these arrays: in one step, and with a cache also in two."""
    if not cached:
        yield shape, run_graph(session, feeds, shape)
        return
    config = base_model(model).config
    batch, sequence = feeds["input_ids"].shape
    size = config.hidden_size // config.num_attention_heads
    nothing = np.zeros((batch, config.num_attention_heads, 0, size), dtype=np.float32)
    layers = range(config.num_hidden_layers)
    empty = {f"past_key_values.{i}.{part}": nothing for i in layers for part in ("key", "value")}
    yield shape, run_graph(session, feeds | empty, shape)
    if sequence < 2:
        return
    cut = sequence // 2
    label = f"{batch}x{cut}+{sequence - cut}"
    first = run_graph(
        session, {name: array[:, :cut] for name, array in feeds.items()} | empty, label
    )
    past = {name: first[name.replace("past_key_values", "present")] for name in empty}
    rest = {name: array[:, cut:] for name, array in feeds.items()}
    rest["attention_mask"] = feeds["attention_mask"]
    second = run_graph(session, rest | past, label)
    yield label, {"logits": np.concatenate([first["logits"], second["logits"]], axis=1)}
