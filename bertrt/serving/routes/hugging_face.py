"""The task shape of the Hugging Face hub, which `InferenceClient(model=URL)` posts to that URL."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertrt.serving.context import Answering, Context
from bertrt.serving.errors import HttpError, invalid
from bertrt.serving.fields import Fields, check_count
from bertrt.serving.message import Request, Response, json_response
from bertrt.serving.models import Model
from bertrt.serving.routes import rerank, tei

__all__ = ["refuse_stream", "root", "vertex"]

# How a text is cut, by the names of transformers' pipelines, which many clients send.
_CUT = ("max_length", "truncation")
# The options that each task takes, by the names that InferenceClient sends.
_OPTIONS = {
    "text-classification": ("function_to_apply", "top_k", *_CUT),
    "token-classification": ("aggregation_strategy", "ignore_labels", "stride", *_CUT),
    "fill-mask": ("targets", "top_k", *_CUT),
    "question-answering": (
        "align_to_words",
        "doc_stride",
        "handle_impossible_answer",
        "max_answer_len",
        "max_question_len",
        "max_seq_len",
        "top_k",
    ),
    "zero-shot-classification": (
        "candidate_labels",
        "hypothesis_template",
        "multi_label",
        *_CUT,
    ),
    "text-generation": (
        "do_sample",
        "max_new_tokens",
        "repetition_penalty",
        "return_full_text",
        "seed",
        "temperature",
        "top_k",
        "top_p",
    ),
}
_MOST_NEW_TOKENS = 1024


async def root(context: Context, request: Request, answering: Answering) -> Response:
    """POST / and /models/NAME: what the body's shape asks for.

    `parameters` is InferenceClient's; `source_sentence` a similarity; `texts` or `documents` a
    re-ranking; anything else the model's own task, in TEI's shape.
    """
    body = await request.json()
    if not isinstance(body, Mapping):
        invalid("the body is not a JSON object")
    inputs = body.get("inputs")
    if isinstance(inputs, Mapping) and "source_sentence" in inputs:
        return await tei.similarity(context, request, answering)
    if "texts" in body or "documents" in body:
        return await rerank.rerank_bare(context, request, answering)
    answering.model = model = context.models.only(request.model)
    if "parameters" not in body:
        if "embed" in model.can:
            return await tei.embed(context, request, answering)
        if "classify" in model.can:
            return await tei.predict(context, request, answering)
        if model.task == "sparse-embedding":
            return await tei.embed_sparse(context, request, answering)
    return await _task(context, request, answering, model, Fields(body))


async def vertex(context: Context, request: Request, answering: Answering) -> Response:
    """POST /vertex: `instances`, each a body of POST /, to `predictions`. One error fails all."""
    instances = Fields(await request.json()).any("instances")
    if not isinstance(instances, list):
        invalid("`instances` has to be a list", "instances")
    if not instances:
        raise HttpError(400, "`instances` cannot be empty", "instances")
    check_count(len(instances), context.limits.inputs)
    try:
        # Together, so that they share batches.
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(root(context, replace(request, parsed=instance), answering))
                for instance in instances
            ]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    answers = b",".join(task.result().body for task in tasks)
    return Response(b'{"predictions":[' + answers + b"]}")


def refuse_stream(model: Model, fields: Fields) -> None:
    """Raise HttpError if a text is to come piece by piece, as it is generated."""
    if model.task == "text-generation" and fields.flag("stream", False):
        raise HttpError(400, "`stream` has to be false: a text comes whole", "stream")


async def _task(
    context: Context, request: Request, answering: Answering, model: Model, fields: Fields
) -> Response:
    """Answer the model's own task, with one input or a list of them."""
    refuse_stream(model, fields)
    parameters = fields.object("parameters")
    task = model.task
    if "zero-shot-classification" in model.can and parameters.has("candidate_labels"):
        task = "zero-shot-classification"
    if task == "feature-extraction":
        return await tei.embed(context, request, answering)
    if task not in _OPTIONS:
        invalid(f"a model for {task} answers at /v1/predict")
    options = parameters.items()
    if unknown := sorted(options.keys() - _OPTIONS[task]):
        known = ", ".join(_OPTIONS[task])
        invalid(f"`{unknown[0][:50]}` is no parameter of {task}, which takes {known}", "parameters")
    value = fields.any("inputs")
    inputs = value if isinstance(value, list) else [value]
    if not inputs:
        raise HttpError(400, "`inputs` cannot be empty", "inputs")
    adapt = _ADAPT.get(task)
    if adapt is not None:
        options = adapt(options)
    if task not in ("question-answering", "text-generation"):
        options.setdefault("truncation", context.truncation(None))
    answers = await context.answer(request, answering, model, "call", inputs, **options)
    answers = [_SHAPES.get(task, lambda answer: answer)(answer) for answer in answers]
    size = answering.cost.size
    if task == "text-classification" and not isinstance(value, list):
        return await json_response([answers[0]], size=size)
    return await json_response(answers if isinstance(value, list) else answers[0], size=size)


def _classification(options: dict[str, Any]) -> dict[str, Any]:
    """Without `top_k` all labels, best first."""
    return {"top_k": None, **options}


def _tokens(options: dict[str, Any]) -> dict[str, Any]:
    return {"aggregation_strategy": "simple", **options}


def _labels(options: dict[str, Any]) -> dict[str, Any]:
    labels = options.get("candidate_labels")
    if labels is None:
        invalid("`candidate_labels` is missing in `parameters`", "parameters")
    return options


def _generation(options: dict[str, Any]) -> dict[str, Any]:
    most = options.get("max_new_tokens")
    if isinstance(most, int) and most > _MOST_NEW_TOKENS:
        invalid(f"`max_new_tokens` has to be at most {_MOST_NEW_TOKENS}", "parameters")
    return options


_ADAPT = {
    "text-classification": _classification,
    "token-classification": _tokens,
    "zero-shot-classification": _labels,
    "text-generation": _generation,
}


def _pairs(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a zero-shot answer as labels with their scores, best first."""
    pairs = zip(answer["labels"], answer["scores"], strict=True)
    return [{"label": label, "score": score} for label, score in pairs]


_SHAPES = {"zero-shot-classification": _pairs}
