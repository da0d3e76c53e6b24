"""Re-ranking in the shape of Cohere, Jina and infinity, and infinity's classification."""

import time
import uuid
from collections.abc import Sequence
from operator import ne
from typing import Any

from bertrt.serving.context import Answering, Context
from bertrt.serving.errors import HttpError, invalid
from bertrt.serving.fields import Fields, check_count
from bertrt.serving.message import Request, Response, json_response
from bertrt.serving.models import Model
from bertrt.serving.ranking import rank
from bertrt.serving.routes import tei
from bertrt.serving.text_size import bound_texts, most_characters

__all__ = ["classify", "rerank", "rerank_bare"]


async def rerank(context: Context, request: Request, answering: Answering) -> Response:
    """POST /v1/rerank and /v2/rerank: `documents` by their relevance; a document is an object."""
    return await _rerank(context, request, answering, as_object=True)


async def rerank_bare(context: Context, request: Request, answering: Answering) -> Response:
    """POST /rerank: TEI's shape with `texts`, infinity's with `documents`, given as strings."""
    body = await request.json()
    if isinstance(body, dict) and "documents" in body and "texts" not in body:
        return await _rerank(context, request, answering, as_object=False)
    return await tei.rerank(context, request, answering)


async def _rerank(
    context: Context, request: Request, answering: Answering, *, as_object: bool
) -> Response:
    fields = Fields(await request.json())
    name = fields.string("model", None)
    answering.model = model = context.models.choose("rerank", request.model, name)
    documents = _read_documents(fields.any("documents"), context.limits.inputs)
    top_n = fields.whole("top_n", None)
    most_tokens = fields.whole("max_tokens_per_doc", None)
    if fields.has("rank_fields") and fields.any("rank_fields") != ["text"]:
        invalid('`rank_fields` has to be ["text"]: put what counts into `text`', "rank_fields")
    texts = documents
    if most_tokens is not None:
        texts = await _cut(context, request, answering, model, documents, most_tokens)
    ranked = await rank(
        context,
        request,
        answering,
        model,
        fields.string("query"),
        texts,
        raw_scores=fields.flag("raw_scores", False),
        truncation=context.truncation(None),
    )
    with_text = fields.flag("return_documents", False)
    results = [
        {
            "index": index,
            "relevance_score": score,
            **({"document": _document(documents[index], as_object)} if with_text else {}),
        }
        for index, score in ranked[:top_n]
    ]
    answer = {
        "object": "rerank",
        "id": str(uuid.uuid4()),
        "model": model.name,
        "results": results,
        "usage": {"prompt_tokens": answering.tokens, "total_tokens": answering.tokens},
        "meta": {"api_version": {"version": "2"}},
    }
    size = answering.cost.size + len(request.body) * with_text
    return await json_response(answer, size=size)


async def classify(context: Context, request: Request, answering: Answering) -> Response:
    """POST /classify: each text's labels with their scores, as infinity answers."""
    fields = Fields(await request.json())
    name = fields.string("model", None)
    answering.model = model = context.models.choose("classify", request.model, name)
    texts = fields.strings("input", context.limits.inputs)
    if not texts:
        raise HttpError(400, "`input` cannot be empty", "input")
    answers = await context.answer(
        request,
        answering,
        model,
        "call",
        texts,
        top_k=None,
        function_to_apply="none" if fields.flag("raw_scores", False) else "default",
        truncation=context.truncation(None),
    )
    answer = {
        "object": "classify",
        "data": answers,
        "model": model.name,
        "usage": {"prompt_tokens": answering.tokens, "total_tokens": answering.tokens},
        "id": str(uuid.uuid4()),
        "created": int(time.time()),
    }
    return await json_response(answer, size=answering.cost.size)


async def _cut(
    context: Context,
    request: Request,
    answering: Answering,
    model: Model,
    documents: Sequence[str],
    most: int,
) -> list[str]:
    """Return documents without what comes after so many of their own tokens."""
    tokenizer = model.runtime.tokenizer
    if most >= tokenizer.max_length:
        return list(documents)  # the model reads no more anyway
    # No token that is kept ends later.
    bounded, _ = bound_texts(documents, most_characters(tokenizer.max_length), "right")

    def cut(document: str) -> str:
        offsets = tokenizer.encode_whole(document, special_tokens=False).offsets
        return document if len(offsets) <= most else document[: offsets[most - 1][1]]

    async with context.texts.admitted(request.deadline):
        texts = await context.texts.map(cut, bounded)
    answering.truncated += sum(map(ne, texts, documents))
    return texts


def _read_documents(value: Any, most: int) -> list[str]:
    """Return the texts of documents, each a string or `{"text": …}`."""
    if not isinstance(value, list):
        invalid("`documents` has to be a list", "documents")
    if not value:
        raise HttpError(400, "`documents` cannot be empty", "documents")
    check_count(len(value), most)
    texts: Sequence[Any] = [one.get("text") if isinstance(one, dict) else one for one in value]
    if not all(isinstance(text, str) for text in texts):
        invalid('`documents` has to hold strings or objects {"text": …}', "documents")
    return list(texts)


def _document(text: str, as_object: bool) -> Any:
    return {"text": text} if as_object else text
