"""The parity check in float32: a graph must give the checkpoint's own answers.

The graph runs in the runtime's own session, as it will be shipped. The reference is the float32
transformers model with its own forward pass, not the one that was traced.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertrt.artifact.graph_io import PAST, PRESENT
from bertrt.errors import ParityError
from bertrt.export.heads import HeadSpec
from bertrt.export.parity.comparison import Comparison, OutputParity
from bertrt.export.parity.harness import (
    Arrays,
    ParitySession,
    open_session,
    random_inputs,
    run_graph,
    run_model,
    shape_name,
    valid_positions,
)
from bertrt.export.parity.optional_paths import optional_paths
from bertrt.export.tracing.trace import cache_names, has_cache
from bertrt.export.tracing.traceable_forward import base_model

__all__ = ["OutputParity", "ParityReport", "check_parity"]


@dataclass(frozen=True)
class ParityReport:
    """The shapes that were run, and the worst errors of each output over all of them.

    A shape is written BxS, BxCxS for multiple choice, or BxP+S for S tokens after P cached ones.
    `dataclasses.asdict` makes the report ready for JSON.
    """

    shapes: tuple[str, ...]
    outputs: tuple[OutputParity, ...]


def check_parity(
    model: torch.nn.Module,
    head: HeadSpec,
    *graphs: Path,
    bound: float = 1e-4,
    optimization_level: str,
    engine: str = "ort",
    cached: bool = True,
    mask_id: int | None = None,
    extra_outputs: Sequence[str] = (),
) -> ParityReport:
    """Run graphs and the model on the same inputs, and compare every output.

    The graph's optional inputs and outputs are compared with the model's answers too: see
    `bertrt.export.parity.optional_paths`. The shapes are 1x1, 1x7, 1x24, 3x33 with ragged rows, and
    two rows of the longest sequence, one of them padded. A decoder also runs each in two steps, the
    second with the cache of the first.

    Args:
        model: the checkpoint, float32, in eval mode, with eager attention.
        head: which head it is.
        graphs: the ONNX files; each must give the model's answers.
        bound: the largest absolute difference allowed at any position that is not padding.
        optimization_level: how far ONNX Runtime optimizes: the `OPTIMIZATION_LEVEL` of the target.
        engine: "ort" runs the graph in ONNX Runtime on the CPU, "triton" by the numpy references of
            the Triton engine's operators.
        cached: whether a decoder's graph has a key/value cache.
        mask_id: the mask token's id, if any; some of the ids are then masks.
        extra_outputs: the hidden states and attention weights among the graph's outputs.

    Raises ParityError, with the output, the shape and the value, if a graph does not run, gives
    another shape or a value that is not finite, or differs by more than the bound.
    """
    sessions = [open_session(graph, engine, optimization_level) for graph in graphs]
    cached = cached and has_cache(model, head)
    comparisons: dict[str, Comparison] = {}
    shapes: dict[str, None] = {}
    try:
        for inputs in random_inputs(model, head, mask_id):
            reference = run_model(model, head, inputs, extra_outputs)
            for session in sessions:
                answers = _answers(
                    session, model, head, inputs, reference, cached, mask_id, extra_outputs
                )
                for answer in answers:
                    shapes[answer.shape] = None
                    comparison = comparisons.setdefault(answer.name, Comparison(answer.name, bound))
                    comparison.add(answer.value, answer.expected, answer.valid, answer.shape)
    finally:
        for session in sessions:
            session.close()
    results = tuple(comparison.result() for comparison in comparisons.values())
    return ParityReport(tuple(shapes), results)


@dataclass(frozen=True)
class _Answer:
    """One output of a run: its value, the expected one, and the positions to compare."""

    name: str
    value: np.ndarray
    expected: np.ndarray
    valid: np.ndarray
    shape: str


def _answers(
    session: ParitySession,
    model: torch.nn.Module,
    head: HeadSpec,
    inputs: Arrays,
    reference: Arrays,
    cached: bool,
    mask_id: int | None,
    extra_outputs: Sequence[str],
) -> Iterator[_Answer]:
    """Yield all answers of a graph to these inputs, including those of its optional paths."""
    shape = shape_name(inputs)
    for label, answer in _run_with_cache(session, model, inputs, shape, cached):
        for name, expected in reference.items():
            if name in extra_outputs and "+" in label:
                continue  # each of the two steps has those of its own tokens only
            if name not in answer:
                raise ParityError(f"the graph has no output {name}, only {list(answer)}")
            valid = valid_positions(head, name, inputs["attention_mask"], expected)
            yield _Answer(name, answer[name], expected, valid, label)
    defaults = session.inputs_with_defaults()
    for path in optional_paths(defaults, set(answer), inputs, reference, mask_id):
        answer = run_graph(session, inputs | path.inputs, shape) if path.inputs else answer
        for name, expected in path.expected.items():
            everywhere = np.ones(expected.shape, bool)
            yield _Answer(path.output_name(name), answer[name], expected, everywhere, shape)


def _run_with_cache(
    session: ParitySession, model: torch.nn.Module, inputs: Arrays, shape: str, cached: bool
) -> Iterator[tuple[str, Arrays]]:
    """Yield the graph's answers to these inputs in one step, and with a cache also in two."""
    if not cached:
        yield shape, run_graph(session, inputs, shape)
        return
    config = base_model(model).config
    batch, sequence = inputs["input_ids"].shape
    size = config.hidden_size // config.num_attention_heads
    no_tokens = np.zeros((batch, config.num_attention_heads, 0, size), dtype=np.float32)
    past_names = cache_names(PAST, config.num_hidden_layers)
    present_names = cache_names(PRESENT, config.num_hidden_layers)
    empty = dict.fromkeys(past_names, no_tokens)
    yield shape, run_graph(session, inputs | empty, shape)
    if sequence < 2:
        return
    cut = sequence // 2
    label = f"{batch}x{cut}+{sequence - cut}"
    start = {name: array[:, :cut] for name, array in inputs.items()}
    first = run_graph(session, start | empty, label)
    past = {name: first[present] for name, present in zip(past_names, present_names, strict=True)}
    rest = {name: array[:, cut:] for name, array in inputs.items()}
    rest["attention_mask"] = inputs["attention_mask"]
    second = run_graph(session, rest | past, label)
    yield label, {"logits": np.concatenate([first["logits"], second["logits"]], axis=1)}
