"""The parity check in float32: a graph must give the checkpoint's own answers.

The graph runs in the runtime's own session, as it will be shipped. The reference is the float32
transformers model with its own forward pass, not the one that was traced. What may differ, and why,
is in `bertrt.export.parity.bound`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertrt.artifact.graph_io import PAST, PRESENT
from bertrt.errors import ParityError
from bertrt.export.heads import HeadSpec
from bertrt.export.parity.advice import TRY
from bertrt.export.parity.bound import describe_miss, fixed_bound, rounding_bound
from bertrt.export.parity.comparison import Comparison
from bertrt.export.parity.harness import (
    Arrays,
    ParitySession,
    has_columns,
    open_session,
    random_inputs,
    run_graph,
    run_model,
    shape_name,
    valid_positions,
)
from bertrt.export.parity.optional_paths import optional_paths
from bertrt.export.parity.rounding import measure_rounding
from bertrt.export.tracing.trace import cache_names, has_cache
from bertrt.export.tracing.traceable_forward import base_model
from bertrt.export.vector_modules import VectorModules

__all__ = ["OutputParity", "ParityReport", "check_parity"]


@dataclass(frozen=True)
class OutputParity:
    """The worst errors of one output over all shapes, at positions that are not padding.

    A row lies along the last axis.

    Attributes:
        name: the output's name.
        absolute_error: the largest absolute difference; it was at most `bound`.
        relative_error: the largest difference divided by the largest magnitude in the same text's
            reference.
        argmax_agreement: the share of rows with the same argmax.
        cosine: the cosine of the worst row.
        bound: the largest absolute difference allowed where the largest is; each column of the
            output met its own.
        eager_error: how far PyTorch's float32 answers are from float64's there, which made the
            bound larger; None if the fixed bound was met, and nothing was measured.
    """

    name: str
    absolute_error: float
    relative_error: float
    argmax_agreement: float
    cosine: float
    bound: float
    eager_error: float | None


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
    optimization_level: str,
    engine: str = "ort",
    cached: bool = True,
    mask_id: int | None = None,
    extra_outputs: Sequence[str] = (),
    vectors: VectorModules | None = None,
    reference: torch.nn.Module | None = None,
) -> ParityReport:
    """Run graphs and the model on the same inputs, and compare every output.

    The graph's optional inputs and outputs are compared with the model's answers too: see
    `bertrt.export.parity.optional_paths`. The shapes are 1x1, 1x7, 1x24, 3x33 with ragged rows, and
    two rows of the longest sequence, one of them padded. A decoder also runs each in two steps, the
    second with the cache of the first.

    Args:
        model: the model that was traced, float32, in eval mode, with eager attention.
        head: which head it is.
        graphs: the ONNX files; each must give the model's answers.
        optimization_level: how far ONNX Runtime optimizes: the `OPTIMIZATION_LEVEL` of the target.
        engine: "ort" runs the graph in ONNX Runtime on the CPU, "triton" by the numpy references of
            the Triton engine's operators.
        cached: whether a decoder's graph has a key/value cache.
        mask_id: the mask token's id, if any; some of the ids are then masks.
        extra_outputs: the hidden states and attention weights among the graph's outputs.
        vectors: what makes a text's vector of its hidden states; None for other heads.
        reference: the model whose answers are right; None for the one that was traced.

    Raises ParityError, with the output, the shape, the value and what to try, if a graph does not
    run, gives another shape or a value that is not finite, or differs by more than 1e-4 (for small
    values: a thousandth of them) and by more than rounding explains.
    """
    right = model if reference is None else reference
    sessions = [open_session(graph, engine, optimization_level) for graph in graphs]
    cached = cached and has_cache(model, head)
    comparisons: dict[str, Comparison] = {}
    shapes: dict[str, None] = {}
    try:
        for inputs in random_inputs(model, head, mask_id):
            expected = run_model(right, head, inputs, extra_outputs)
            for session in sessions:
                answers = _answers(
                    session, model, head, inputs, expected, cached, mask_id, extra_outputs, vectors
                )
                for answer in answers:
                    shapes[answer.shape] = None
                    if answer.name not in comparisons:
                        by_column = has_columns(head, answer.name)
                        comparisons[answer.name] = Comparison(answer.name, by_column=by_column)
                    comparisons[answer.name].add(
                        answer.value, answer.expected, answer.valid, answer.shape
                    )
        missed = [
            name
            for name, found in comparisons.items()
            if (found.error > fixed_bound(found.largest)).any()
        ]
        rounding: dict[str, np.ndarray] = {}
        if missed:
            defaults = sessions[0].inputs_with_defaults()
            rounding = measure_rounding(
                model, head, mask_id, extra_outputs, vectors, defaults, list(comparisons), right
            )
    finally:
        for session in sessions:
            session.close()
    results = tuple(
        _judge(name, found, rounding[name] if name in missed else None)
        for name, found in comparisons.items()
    )
    return ParityReport(tuple(shapes), results)


def _judge(name: str, found: Comparison, eager_error: np.ndarray | None) -> OutputParity:
    """Return an output's report; raises ParityError for a column whose error exceeds its bound.

    Args:
        name: the output's name.
        found: its errors.
        eager_error: PyTorch's own errors in its columns, float [n]; None if the fixed bound is met.
    """
    bounds = fixed_bound(found.largest)
    if eager_error is not None:
        eps = float(np.finfo(np.float32).eps)
        bounds = np.maximum(bounds, rounding_bound(eager_error, found.largest, eps))
        for shape, errors in found.errors.items():
            excess = errors - bounds
            column = int(excess.argmax())
            if excess[column] > 0:
                miss = describe_miss(
                    float(errors[column]), float(found.largest[column]), float(eager_error[column])
                )
                raise ParityError(f"{name} at shape {shape} differs from the model's answer {miss}")
    worst = int(found.error.argmax())
    result = found.result()
    return OutputParity(
        name,
        result.absolute_error,
        result.relative_error,
        result.argmax_agreement,
        result.cosine,
        float(bounds[worst]),
        None if eager_error is None else float(eager_error[worst]),
    )


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
    vectors: VectorModules | None,
) -> Iterator[_Answer]:
    """Yield all answers of a graph to these inputs, including those of its optional paths."""
    shape = shape_name(inputs)
    for label, answer in _run_with_cache(session, model, inputs, shape, cached):
        for name, expected in reference.items():
            if name in extra_outputs and "+" in label:
                continue  # each of the two steps has those of its own tokens only
            if name not in answer:
                raise ParityError(
                    f"the graph has no output {name}, only {', '.join(answer)}: {TRY}"
                )
            valid = valid_positions(head, name, inputs["attention_mask"], expected)
            yield _Answer(name, answer[name], expected, valid, label)
    defaults = session.inputs_with_defaults()
    for path in optional_paths(defaults, set(answer), inputs, reference, mask_id, vectors):
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
