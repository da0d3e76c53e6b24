"""The routes of OpenAI's API: embeddings and the list of models."""

import base64
from typing import Any

import numpy as np

from bertrt.heads.base import TokenIds
from bertrt.serving.context import Answering, Context
from bertrt.serving.errors import HttpError
from bertrt.serving.fields import Fields
from bertrt.serving.message import Request, Response, json_response, off_loop
from bertrt.serving.models import Model
from bertrt.serving.routes.tei import is_id

__all__ = ["embeddings", "model", "models"]


async def embeddings(context: Context, request: Request, answering: Answering) -> Response:
    """POST /v1/embeddings: vectors as lists of numbers, or as base64 of little-endian float32."""
    fields = Fields(await request.json(), status=400)
    name = fields.string("model", None)
    answering.model = chosen = context.models.choose("embed", request.model, name)
    fields.choice("modality", "text", ("text",))  # infinity's, which also embeds pictures
    value, most, vocabulary = fields.any("input"), context.limits.inputs, chosen.vocab_size
    inputs = await off_loop(len(request.body), lambda: _read_input(value, most, vocabulary))
    format = fields.choice("encoding_format", "float", ("float", "base64"))
    # infinity's own client sends 0 for all of them.
    least = 0 if request.path == "/embeddings" else 1
    dimensions, facts = fields.whole("dimensions", None, least=least) or None, chosen.embedding
    if dimensions is not None and facts is not None and dimensions > facts.size:
        raise HttpError(400, f"`dimensions` has to be at most {facts.size}", "dimensions")
    vectors = await context.answer(
        request,
        answering,
        chosen,
        "embed",
        inputs,
        normalize=True,
        dimensions=dimensions,
        truncation=context.truncation(None),
    )
    size = answering.cost.size
    data = await off_loop(size, lambda: _entries(vectors, format))
    answer = {
        "object": "list",
        "data": data,
        "model": chosen.name,
        "usage": {"prompt_tokens": answering.tokens, "total_tokens": answering.tokens},
    }
    return await json_response(answer, size=size)


async def models(context: Context, request: Request, answering: Answering) -> Response:
    """GET /v1/models: every model, or that of the path's prefix, with what it can do."""
    name = request.model
    found = list(context.models) if name is None else [context.models.named(name)]
    return await json_response({"object": "list", "data": [_describe(model) for model in found]})


async def model(context: Context, request: Request, answering: Answering) -> Response:
    """GET /v1/models/NAME: one model."""
    return await json_response(_describe(context.models.named(request.model or "")))


def _read_input(value: Any, most: int, vocab_size: int) -> list[Any]:
    """Return texts and lists of token ids; an empty text is a text here."""
    if isinstance(value, str) or (isinstance(value, list) and value and all(map(is_id, value))):
        value = [value]
    if not isinstance(value, list) or not value:
        raise HttpError(400, "`input` has to be a string, or a list that is not empty", "input")
    if len(value) > most:
        raise HttpError(
            400, f"`input` has {len(value)} inputs; at most {most} are allowed", "input"
        )
    inputs: list[Any] = []
    for one in value:
        if isinstance(one, str):
            inputs.append(one)
        elif isinstance(one, list) and one and all(map(is_id, one)):
            if max(one) >= vocab_size:
                message = (
                    f"`input` has the token id {max(one)}, and the vocabulary's are 0 to "
                    f"{vocab_size - 1}: send texts, or ids of this model's own tokenizer "
                    "(LangChain: check_embedding_ctx_length=False)"
                )
                raise HttpError(400, message, "input")
            inputs.append(TokenIds(tuple(one)))
        else:
            raise HttpError(400, "`input` has to hold strings or lists of token ids", "input")
    return inputs


def _entries(vectors: np.ndarray, format: str) -> list[dict[str, Any]]:
    return [
        {"object": "embedding", "index": index, "embedding": _encode(vector, format)}
        for index, vector in enumerate(vectors)
    ]


def _encode(vector: np.ndarray, format: str) -> Any:
    if format == "float":
        return vector
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _describe(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "bertrt",
        "capabilities": sorted(model.can),
    }
