"""The routes of the Open Inference Protocol, version 2, as clients of Triton speak it."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import orjson

from bertrt._version import __version__
from bertrt.serving.context import Answering, Context
from bertrt.serving.cost import Cost
from bertrt.serving.errors import HttpError
from bertrt.serving.message import Request, Response, json_response, off_loop
from bertrt.serving.models import Model
from bertrt.serving.open_inference.request import InferRequest, RequestedOutput, read_request
from bertrt.serving.open_inference.response import write_response
from bertrt.serving.open_inference.signature import (
    VERSION,
    Signature,
    choose,
    count_elements,
    refuse_shape,
    signatures,
)
from bertrt.serving.open_inference.tensors import InputTensor, OutputTensor, refuse
from bertrt.text_tensors import TEXT, TEXT_PAIR, answer_arrays, choose_call, pair_up

__all__ = ["infer", "model", "ready", "server"]

# About the bytes of a number as JSON.
_NUMBER = 12


async def server(context: Context, request: Request, answering: Answering) -> Response:
    """GET /v2: the server's name and version."""
    answer = {"name": "bertrt", "version": __version__, "extensions": ["binary_tensor_data"]}
    return await json_response(answer)


async def model(context: Context, request: Request, answering: Answering) -> Response:
    """GET /v2/models/NAME: the inputs and outputs of both signatures, those of texts first."""
    found = _named(context, request)
    both = signatures(found)
    answer = {
        "name": found.name,
        "versions": [VERSION],
        "platform": "bertrt",
        "inputs": [vars(kind) for signature in both for kind in signature.inputs],
        "outputs": [vars(kind) for signature in both for kind in signature.outputs],
    }
    return await json_response(answer)


async def ready(context: Context, request: Request, answering: Answering) -> Response:
    """GET /v2/models/NAME/ready: whether a model takes requests; 400 if not, also if unknown."""
    try:
        is_ready = _named(context, request).batcher.load.alive
    except HttpError:
        is_ready = False
    if not is_ready:
        refuse("Model version not ready")
    return Response()


async def infer(context: Context, request: Request, answering: Answering) -> Response:
    """POST /v2/models/NAME/infer: answers to texts, or the graph's outputs for token ids."""
    found = _named(context, request)
    header = request.headers.get("inference-header-content-length")
    asked = await off_loop(len(request.body), lambda: read_request(request.body, header))
    if asked.timeout is not None:
        deadline = time.monotonic() + asked.timeout
        request = replace(request, deadline=min(deadline, request.deadline or deadline))
    signature = choose(found, asked.inputs)
    wanted = _wanted(found, signature, asked)
    most = context.limits.inputs
    if _sequences(asked.inputs) > most:
        refuse(f"inference request batch-size must be <= {most} for '{found.name}'")
    if TEXT in asked.inputs:
        tensors = await _answer_texts(context, request, answering, found, signature, asked.inputs)
    else:
        names = [output.name for output in wanted]
        tensors = await _run_arrays(context, request, answering, found, asked.inputs, names)
    chosen = [(tensors[output.name], output.is_binary) for output in wanted]
    size = _NUMBER * sum(math.prod(tensor.shape) for tensor, _ in chosen)
    return await off_loop(size, lambda: write_response(found.name, VERSION, asked.id, chosen))


def _named(context: Context, request: Request) -> Model:
    """Return the model of the path. Raises HttpError for an unknown name or version."""
    name, version = request.model or "", request.version or VERSION
    if version == VERSION and name in {model.name for model in context.models}:
        return context.models.named(name)
    what = f"'{name[:100]}'" if version == VERSION else f"'{name[:100]}' version {version[:20]}"
    raise HttpError(404, f"Request for unknown model: {what} is not found")


def _wanted(model: Model, signature: Signature, asked: InferRequest) -> list[RequestedOutput]:
    """Return the outputs to give: those asked for, or all that the model gives by default."""
    if not asked.outputs:
        graph = model.artifact.manifest.graph
        optional = {spec.name for spec in graph.outputs if spec.optional}
        names = [kind.name for kind in signature.outputs if kind.name not in optional]
        return [RequestedOutput(name, asked.is_binary) for name in names]
    known = {kind.name for kind in signature.outputs}
    for output in asked.outputs:
        if output.name not in known:
            refuse(f"unexpected inference output '{output.name[:100]}' for model '{model.name}'")
    return list(asked.outputs)


def _sequences(inputs: Mapping[str, InputTensor]) -> int:
    """Return how many texts or rows of token ids a request has, each choice counted."""
    if "input_ids" in inputs:
        return math.prod(inputs["input_ids"].shape[:-1])
    return max(math.prod(tensor.shape) for tensor in inputs.values())


async def _answer_texts(
    context: Context,
    request: Request,
    answering: Answering,
    model: Model,
    signature: Signature,
    inputs: Mapping[str, InputTensor],
) -> dict[str, OutputTensor]:
    """Answer texts or pairs of texts; an output with one answer a text has the texts' shape."""
    text, pair = inputs[TEXT], inputs.get(TEXT_PAIR)
    if pair is not None and pair.shape[0] != text.shape[0]:
        refuse_shape(signature.inputs[1], pair, model.name)
    size = sum(len(tensor.data) for tensor in inputs.values())
    texts = await off_loop(size, text.texts)
    pairs = None if pair is None else await off_loop(size, pair.texts)
    items = pair_up(model.task, texts, pairs)
    method, options = choose_call(model.task, context.truncation(None))
    answers = await context.answer(request, answering, model, method, items, **options)
    arrays = answer_arrays(model.task, answers, lambda answer: orjson.dumps(answer).decode())
    return {
        name: OutputTensor.of(name, array.reshape(text.shape) if array.ndim == 1 else array)
        for name, array in arrays.items()
    }


async def _run_arrays(
    context: Context,
    request: Request,
    answering: Answering,
    model: Model,
    inputs: Mapping[str, InputTensor],
    names: list[str],
) -> dict[str, OutputTensor]:
    """Run the graph on token ids, and return its outputs of these names."""
    rows = _sequences(inputs)
    size = _NUMBER * count_elements(model, inputs["input_ids"].shape, names)
    context.check_cost(answering, Cost(rows, size))
    arrays = {
        name: await off_loop(len(tensor.data), tensor.numbers) for name, tensor in inputs.items()
    }
    answering.model = model
    answered = await model.arrays.run(arrays, names, request.deadline)
    answering.note(answered)
    context.metrics.answered(model.name, answered, inputs["input_ids"].shape[0])
    return {name: OutputTensor.of(name, values) for name, values in answered.answers.items()}
