"""Quantize a float32 graph to int8: observe, smooth, search, and check on held-out texts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import ParityError
from bertrt.export.heads import VECTOR_TASKS, HeadSpec
from bertrt.export.quantize.accuracy import Accuracy, answers_of, compare, outputs_of
from bertrt.export.quantize.candidates import candidates
from bertrt.export.quantize.centers import center_inputs
from bertrt.export.quantize.decisions import Answers
from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import QuantizableLinear, find_linears
from bertrt.export.quantize.neurons import sort_neurons
from bertrt.export.quantize.observe import Observed, observe
from bertrt.export.quantize.options import QuantizationOptions
from bertrt.export.quantize.recipe import Quantized, Recipe, quantize_linear
from bertrt.export.quantize.rewrite import write_int8
from bertrt.export.quantize.samples import Sample, Samples
from bertrt.export.quantize.search import LEAST_INT8, Bound, Found, Measure, Plan, search
from bertrt.export.quantize.text_batches import TextBatch, make_batches
from bertrt.export.quantize.values import smooth_values, with_headroom
from bertrt.progress import ProgressCallback
from bertrt.tokenizer import Tokenizer

__all__ = ["MIN_AGREEMENT", "MIN_COSINE", "QuantizationTarget", "quantize"]

# The default bounds of an int8 graph.
MIN_COSINE = 0.995
MIN_AGREEMENT = 0.99
# On the held-out texts the allowed error is smaller than the bound's by this share, because other
# texts do worse: with a tenth, 1 of 2,694 other texts fell below the bound, with this none.
_MARGIN = 0.15
# The smallest cosine between a text's answers alone and in a batch, which must not differ.
_SAME = 0.9999


@dataclass(frozen=True)
class QuantizationTarget:
    """What the graph is of: the head, and the artifact's tokenizer, sizes and graph inputs."""

    head: HeadSpec
    tokenizer: Tokenizer
    config: ModelConfig
    inputs: tuple[TensorSpec, ...]

    def batches(self, sample: Sample, *, together: bool = True) -> list[TextBatch]:
        """Encode and batch a sample; see `make_batches`."""
        return make_batches(
            sample.rows, self.head, self.tokenizer, self.config, self.inputs, together=together
        )

    def compare(self, answers: Answers, reference: Answers, sample: Sample) -> Accuracy:
        """Compare answers with the float32 graph's answers to the same sample."""
        return compare(answers, reference, self.head, self.config, sample.lists)


def quantize(
    model: ir.Model,
    target: QuantizationTarget,
    samples: Samples,
    folder: Path,
    options: QuantizationOptions,
    finish: Callable[[ir.Model], None],
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Quantize a fused graph's linear layers, in place.

    Args:
        model: the graph, float32.
        target: what the graph is of.
        samples: the texts or pairs for the scales and the check.
        folder: where trial graphs may be written.
        options: what the answers must meet: the smallest cosine of any embedding, or the smallest
            share of decisions that stay the same.
        finish: gives the quantized graph the form that will be written, in place.
        progress: called for each stage of the work.

    Returns the report for the manifest's `quantization`.

    Raises ParityError if no mixture with half of its products in int8 meets the bound, or if the
    finished graph does not.
    """
    head = target.head
    bound = _bound(head, options)
    progress(0, None, "observe the calibration texts")
    linears, observed = _prepare(model, target, samples.calibration, folder)
    progress(0, None, "weigh candidates")
    choices = {name: candidates(linear, observed[name]) for name, linear in linears.items()}

    trials = _Trials(model, target, folder, linears, observed)
    products = {name: linear.products for name, linear in linears.items()}
    judge = trials.judge(samples.held_out)
    found = search(
        choices,
        products,
        _with_margin(bound),
        trials.measure(judge),
        trials.measure(trials.judge(samples.few)),
        progress,
    )
    if not found.met:
        raise ParityError(_failure(head, bound, found))
    trials.write(found.plan, model)
    finish(model)

    progress(0, None, "compare texts alone and in a batch")
    accuracy = judge(model)
    if not bound.met_by(accuracy):
        raise ParityError(
            f"the finished int8 graph has a worst cosine of {accuracy.cosine:.4f} and an agreement "
            f"of {accuracy.agreement:.4f} on the held-out texts, and the graph that was searched "
            f"had {found.step.accuracy.cosine:.4f} and {found.step.accuracy.agreement:.4f}: export "
            "with --dtype float32, and report this error"
        )
    same = _compare_alone(model, target, samples.alone, folder)
    return _report(found, accuracy, bound, samples, same, head)


def _bound(head: HeadSpec, options: QuantizationOptions) -> Bound:
    if head.task in VECTOR_TASKS:
        return Bound(cosine=options.min_cosine or MIN_COSINE)
    return Bound(agreement=options.min_agreement or MIN_AGREEMENT)


def _with_margin(bound: Bound) -> Bound:
    """Return the stricter bound for the held-out texts."""
    return Bound(
        *(1 - (1 - value) * (1 - _MARGIN) if value else 0.0 for value in vars(bound).values())
    )


def _prepare(
    model: ir.Model, target: QuantizationTarget, sample: Sample, folder: Path
) -> tuple[dict[str, QuantizableLinear], dict[str, Observed]]:
    """Observe the inputs of linear layers, and change the graph, in place, to quantize better.

    The changes are exact: they leave the graph's function as it is.
    """
    linears = find_linears(model)
    inputs = (batch.inputs for batch in target.batches(sample))
    observed = observe(model, list(linears.values()), inputs, folder)
    observed = center_inputs(model, linears, observed)
    observed = with_headroom(smooth_values(model, linears, observed))
    observed = sort_neurons(model, linears, observed)
    return find_linears(model), observed


class _Trials:
    """Quantizes graphs by plans, and measures their answers against the float32 graph's."""

    def __init__(
        self,
        model: ir.Model,
        target: QuantizationTarget,
        folder: Path,
        linears: Mapping[str, QuantizableLinear],
        observed: Mapping[str, Observed],
    ) -> None:
        self._model = model
        self._target = target
        self._folder = folder

        @cache
        def tensors(name: str, recipe: Recipe) -> Quantized:
            return quantize_linear(linears[name].weight, observed[name], recipe)

        self._tensors = tensors

    def write(self, plan: Mapping[str, Recipe], graph: ir.Model) -> None:
        """Quantize a graph's layers by a plan, in place; layers it does not name stay float32."""
        write_int8(
            graph,
            {
                name: self._tensors(name, recipe)
                for name, recipe in plan.items()
                if recipe.precision == "int8"
            },
        )

    def judge(self, sample: Sample) -> Callable[[ir.Model], Accuracy]:
        """Return a function that measures a graph's accuracy on a sample."""
        target = self._target
        batches = target.batches(sample)
        with open_graph(self._model, self._folder) as run:
            reference = answers_of(run, batches, target.head)

        def judge(graph: ir.Model) -> Accuracy:
            with open_graph(graph, self._folder) as run:
                answers = answers_of(run, batches, target.head)
            return target.compare(answers, reference, sample)

        return judge

    def measure(self, judge: Callable[[ir.Model], Accuracy]) -> Measure:
        """Return a function that judges the graph of a plan."""

        def measure(plan: Plan) -> Accuracy:
            graph = self._model.clone()
            self.write(plan, graph)
            return judge(graph)

        return measure


def _compare_alone(
    model: ir.Model, target: QuantizationTarget, sample: Sample, folder: Path
) -> float:
    """Return the smallest cosine between answers to texts alone and in a batch.

    Raises ParityError if they differ.
    """
    with open_graph(model, folder) as run:
        together = answers_of(run, target.batches(sample), target.head)
        alone = answers_of(run, target.batches(sample, together=False), target.head)
    cosine = target.compare(alone, together, sample).cosine
    if cosine < _SAME:
        raise ParityError(
            f"the int8 graph's answers to a text alone and in a batch have a cosine of "
            f"{cosine:.6f}, and at least {_SAME} is required: export with --dtype float32, and "
            "report this error"
        )
    return cosine


def _failure(head: HeadSpec, bound: Bound, found: Found) -> str:
    best = max(
        (step.accuracy for step in found.steps), key=lambda entry: (entry.agreement, entry.cosine)
    )
    if head.task in VECTOR_TASKS:
        reached, required, option = best.cosine, bound.cosine, "--min-cosine"
        what = "a worst cosine"
    else:
        reached, required, option = best.agreement, bound.agreement, "--min-agreement"
        weakest = best.weakest
        what = f"an agreement of {weakest.count} {weakest.what}" if weakest else "an agreement"
    accepted = max(0.0, np.floor((1 - (1 - reached) / (1 - _MARGIN)) * 1000) / 1000)
    return (
        f"no int8 mixture with {LEAST_INT8:.0%} of its products in int8 has {what} of at least "
        f"{required:g} (with a margin) on the held-out texts; the best of {len(found.steps)} has "
        f"{reached:.4f}: to accept lower accuracy, pass {option} {accepted:g}, or export with "
        "--dtype float32"
    )


def _report(
    found: Found,
    accuracy: Accuracy,
    bound: Bound,
    samples: Samples,
    same: float,
    head: HeadSpec,
) -> dict[str, Any]:
    shipped = found.step
    return {
        "calibration": samples.report,
        "bound": {k: v for k, v in (("cosine", bound.cosine), ("agreement", bound.agreement)) if v},
        "outputs": outputs_of(head),
        "cosine": accuracy.cosine,
        "agreement": accuracy.agreement,
        "judged": [asdict(kind) for kind in accuracy.judged],
        "answers": accuracy.answers,
        "alone_and_in_a_batch": same,
        "products_in_int8": shipped.int8,
        "saturates": False,  # weights are scaled so that it cannot, on any processor
        "cost": shipped.cost,
        "layers": {name: recipe.label for name, recipe in found.plan.items()},
        "search": [
            {
                "cost": step.cost,
                "products_in_int8": step.int8,
                "cosine": step.accuracy.cosine,
                "agreement": step.accuracy.agreement,
            }
            for step in found.steps
        ],
    }
