"""A float32 graph to int8: observe, smooth, search, and prove it on texts that were held out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import ParityError
from bertrt.export.heads import Head
from bertrt.export.quantize.accuracy import Accuracy, answers_of, compare, outputs_of
from bertrt.export.quantize.candidates import ladder
from bertrt.export.quantize.centers import center_inputs
from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import find_linears
from bertrt.export.quantize.neurons import sort_neurons
from bertrt.export.quantize.observe import observe
from bertrt.export.quantize.options import Wishes
from bertrt.export.quantize.recipe import Quantized, Recipe, quantize_linear
from bertrt.export.quantize.rewrite import write_int8
from bertrt.export.quantize.search import LEAST_INT8, Bound, Found, search
from bertrt.export.quantize.text_feeds import feeds_of
from bertrt.export.quantize.texts import calibration_texts, heldout_texts, read_texts
from bertrt.export.quantize.values import smooth_values, with_headroom
from bertrt.tokenizer import Tokenizer

__all__ = ["MIN_AGREEMENT", "MIN_COSINE", "Subject", "quantize"]

# What an int8 graph has to meet when nobody says otherwise.
MIN_COSINE = 0.995
MIN_AGREEMENT = 0.99
# The held-out texts have to do better than the bound by this share of what it leaves, because
# other texts do worse: with a tenth, 1 of 2,694 others fell below it, with this none.
_MARGIN = 0.15
# Of a user's own texts every fourth is held out.
_HELD_OUT = 4
# Texts with which layers are weighed against each other, and texts that are run alone as well.
_WEIGHED, _ALONE = 32, 16
# A text's answer may not depend on its batch: the least cosine between alone and together.
_SAME = 0.9999


@dataclass(frozen=True)
class Subject:
    """What is quantized: the head, and the artifact's tokenizer, sizes and graph inputs."""

    head: Head
    tokenizer: Tokenizer
    config: ModelConfig
    inputs: tuple[TensorSpec, ...]


def quantize(
    model: ir.Model,
    subject: Subject,
    folder: Path,
    wishes: Wishes,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Quantize a fused cpu graph's linear layers, in place.

    Args:
        model: the graph, float32.
        subject: what the graph is of.
        folder: where trial graphs may be written.
        wishes: the texts for the scales and the proof, and what the answers have to meet: the
            least cosine of any embedding, or the least share of decisions that stay the same.
        tell: told what is going on.

    Returns the report that stands in the manifest as `quantization`.

    Raises ParityError when no mixture with half of its products in int8 meets the bound.
    """
    head = subject.head
    bound = _bound(head, wishes)
    strict = Bound(*(1 - (1 - one) * (1 - _MARGIN) if one else 0.0 for one in vars(bound).values()))
    texts, held_out, source = _texts(wishes.calibration)

    def feeds(some: Sequence[str], **how: Any) -> list[Any]:
        return feeds_of(some, head, subject.tokenizer, subject.config, subject.inputs, **how)

    tell("observe the calibration texts")
    linears = find_linears(model)
    observed = observe(model, list(linears.values()), (b.feeds for b in feeds(texts)), folder)
    observed = center_inputs(model, linears, observed)
    observed = with_headroom(smooth_values(model, linears, observed))
    observed = sort_neurons(model, linears, observed)
    linears = find_linears(model)
    tell("weigh recipes")
    ladders = {name: ladder(linear, observed[name]) for name, linear in linears.items()}

    everything, few = feeds(held_out), feeds(held_out[:: max(1, len(held_out) // _WEIGHED)])
    with open_graph(model, folder) as run:
        exact = {id(batches): answers_of(run, batches, head) for batches in (everything, few)}

    @cache
    def tensors(name: str, recipe: Recipe) -> Quantized:
        return quantize_linear(linears[name].weight, observed[name], recipe)

    def apply(plan: Mapping[str, Recipe], graph: ir.Model) -> ir.Model:
        chosen = {name: recipe for name, recipe in plan.items() if recipe.precision == "int8"}
        write_int8(graph, {name: tensors(name, recipe) for name, recipe in chosen.items()})
        return graph

    def measure(batches: list[Any]) -> Callable[[dict[str, Recipe]], Accuracy]:
        def run_plan(plan: dict[str, Recipe]) -> Accuracy:
            with open_graph(apply(plan, model.clone()), folder) as run:
                answers = answers_of(run, batches, head)
            return compare(answers, exact[id(batches)], head, subject.config)

        return run_plan

    products = {name: linear.products for name, linear in linears.items()}
    found = search(ladders, products, strict, measure(everything), measure(few), tell)
    if not found.met:
        raise ParityError(_failure(head, bound, found))
    apply(found.plan, model)

    tell("compare texts alone and in a batch")
    some = held_out[:: max(1, len(held_out) // _ALONE)]
    with open_graph(model, folder) as run:
        together = answers_of(run, feeds(some), head)
        alone = answers_of(run, feeds(some, together=False), head)
    same = compare(alone, together, head, subject.config).cosine
    if same < _SAME:
        raise ParityError(
            f"the int8 graph gives a text alone and in a batch answers of cosine {same:.6f}, where "
            f"{_SAME} is promised: export with --dtype float32, and report it"
        )
    return _report(found, bound, source, len(texts), len(held_out), same, head)


def _bound(head: Head, wishes: Wishes) -> Bound:
    if head.task == "feature-extraction":
        return Bound(cosine=wishes.min_cosine or MIN_COSINE)
    return Bound(agreement=wishes.min_agreement or MIN_AGREEMENT)


def _texts(calibration: Path | None) -> tuple[list[str], list[str], str]:
    """The calibration's texts, those held out, and where they come from."""
    if calibration is None:
        return calibration_texts(), heldout_texts(), "built-in"
    texts = read_texts(calibration)
    kept = [text for i, text in enumerate(texts) if i % _HELD_OUT]
    return kept, texts[::_HELD_OUT], calibration.name


def _failure(head: Head, bound: Bound, found: Found) -> str:
    best = max((step.accuracy for step in found.steps), key=lambda one: (one.agreement, one.cosine))
    if head.task == "feature-extraction":
        reached, asked, option = best.cosine, bound.cosine, "--min-cosine"
        what = "a worst cosine"
    else:
        reached, asked, option = best.agreement, bound.agreement, "--min-agreement"
        what = "an agreement"
    accepted = max(0.0, np.floor((1 - (1 - reached) / (1 - _MARGIN)) * 1000) / 1000)
    return (
        f"no int8 mixture with {LEAST_INT8:.0%} of its products in int8 has {what} of at least "
        f"{asked:g} (with a margin) on the held-out texts, the nearest of {len(found.steps)} "
        f"{reached:.4f}: accept less with {option} {accepted:g}, or export with --dtype float32"
    )


def _report(
    found: Found, bound: Bound, source: str, calibrated: int, held_out: int, same: float, head: Head
) -> dict[str, Any]:
    shipped = found.step
    return {
        "calibration": {"texts": source, "calibrated_on": calibrated, "held_out": held_out},
        "bound": {k: v for k, v in (("cosine", bound.cosine), ("agreement", bound.agreement)) if v},
        "outputs": outputs_of(head),
        "cosine": shipped.accuracy.cosine,
        "agreement": shipped.accuracy.agreement,
        "answers": shipped.accuracy.answers,
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
