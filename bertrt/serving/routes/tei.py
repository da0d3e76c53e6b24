"""The routes of Text Embeddings Inference (TEI), version 1.9."""

from typing import Any

import numpy as np

from bertrt._version import __version__
from bertrt.heads.base import TokenIds
from bertrt.heads.prompts import choose_prompt
from bertrt.heads.similarity import similarity as cosines
from bertrt.heads.sparse_vectors import SparseVector
from bertrt.serving.context import Answering, Context
from bertrt.serving.cost import Cost
from bertrt.serving.errors import HttpError, invalid
from bertrt.serving.fields import Fields, check_count
from bertrt.serving.json_pieces import write_pieces
from bertrt.serving.message import Request, Response, json_response, off_loop
from bertrt.serving.models import Model
from bertrt.serving.ranking import rank
from bertrt.serving.text_size import bound_texts, most_characters
from bertrt.tokenizer import Encoding

__all__ = [
    "decode",
    "embed",
    "embed_all",
    "embed_sparse",
    "info",
    "predict",
    "rerank",
    "similarity",
    "tokenize",
]

_DIRECTIONS = ("right", "Right", "left", "Left")


async def embed(context: Context, request: Request, answering: Answering) -> Response:
    """POST /embed: vectors, `[[float]]`."""
    fields = Fields(await request.json())
    answering.model = model = context.models.choose("embed", request.model)
    texts = await _read(context, request, fields)
    dimensions = fields.whole("dimensions", None, least=0)
    if dimensions == 0:
        invalid("`dimensions` should be positive", "dimensions")
    vectors = await context.answer(
        request,
        answering,
        model,
        "embed",
        texts,
        normalize=fields.flag("normalize", True),
        dimensions=_dimensions(model, dimensions),
        **_text_options(context, model, fields),
    )
    return await json_response(vectors, size=answering.cost.size)


async def embed_all(context: Context, request: Request, answering: Answering) -> Response:
    """POST /embed_all: one vector a token, `[[[float]]]`; those of documents if kinds differ."""
    fields = Fields(await request.json())
    answering.model = model = context.models.choose("embed_all", request.model)
    texts = await _read(context, request, fields, ids=False)
    options = _text_options(context, model, fields)
    if model.task == "multi-vector-embedding":
        vectors = await context.answer(
            request, answering, model, "embed_tokens", texts, kind="document", **options
        )
        return await json_response(vectors, size=answering.cost.size)
    prompt = _prompt(model, options.pop("prompt_name"))
    answers = await context.answer(
        request, answering, model, "call", [f"{prompt}{text}" for text in texts], **options
    )
    return await json_response([answer[0] for answer in answers], size=answering.cost.size)


async def embed_sparse(context: Context, request: Request, answering: Answering) -> Response:
    """POST /embed_sparse: the weights of tokens by their ids, `[[{"index", "value"}]]`."""
    fields = Fields(await request.json())
    answering.model = model = context.models.choose("sparse-embedding", request.model)
    texts = await _read(context, request, fields, ids=False)
    options = _text_options(context, model, fields)
    # TEI has no kinds: the prompt's name tells how a model with two routes makes the vector.
    name = options["prompt_name"]
    kind = name if name in ("query", "document") else None
    vectors = await context.answer(
        request, answering, model, "embed_sparse", texts, kind=kind, **options
    )
    return await json_response([_entries(vector) for vector in vectors], size=answering.cost.size)


async def predict(context: Context, request: Request, answering: Answering) -> Response:
    """POST /predict: labels with their scores, best first."""
    fields = Fields(await request.json())
    answering.model = model = context.models.choose("classify", request.model)
    inputs, single = _read_predict(fields.any("inputs"), context.limits.inputs)
    function = "none" if fields.flag("raw_scores", False) else _function(model)
    answers = await context.answer(
        request,
        answering,
        model,
        "call",
        inputs,
        top_k=None,
        function_to_apply=function,
        **_truncation(context, fields),
    )
    return await json_response(answers[0] if single else answers, size=answering.cost.size)


async def rerank(context: Context, request: Request, answering: Answering) -> Response:
    """POST /rerank with `texts`: their scores with a query, best first."""
    fields = Fields(await request.json())
    answering.model = model = context.models.choose("rerank", request.model)
    query, texts = fields.string("query"), fields.strings("texts", context.limits.inputs)
    if not texts:
        raise HttpError(400, "`texts` cannot be empty", "texts")
    ranked = await rank(
        context,
        request,
        answering,
        model,
        query,
        texts,
        raw_scores=fields.flag("raw_scores", False),
        **_truncation(context, fields),
    )
    with_text = fields.flag("return_text", False)
    answers = [
        {"index": index, "score": score, **({"text": texts[index]} if with_text else {})}
        for index, score in ranked
    ]
    size = answering.cost.size + len(request.body) * with_text
    return await json_response(answers, size=size)


async def similarity(context: Context, request: Request, answering: Answering) -> Response:
    """POST /similarity: the cosine of a sentence with each of others, `[float]`."""
    fields = Fields(await request.json())
    answering.model = model = context.models.choose("embed", request.model)
    inputs, parameters = fields.object("inputs"), fields.object("parameters")
    sentences = inputs.strings("sentences", context.limits.inputs)
    if not sentences:
        raise HttpError(400, "`sentences` cannot be empty", "inputs")
    vectors = await context.answer(
        request,
        answering,
        model,
        "embed",
        [inputs.string("source_sentence"), *sentences],
        **_text_options(context, model, parameters),
    )
    return await json_response(cosines(vectors[:1], vectors[1:], "cosine")[0])


async def tokenize(context: Context, request: Request, answering: Answering) -> Response:
    """POST /tokenize: each text's tokens.

    No model runs, but the tokenizer holds the interpreter's lock, so a thread of its own runs it.
    """
    fields = Fields(await request.json())
    answering.model = model = context.models.only(request.model)
    texts = await _read(context, request, fields, ids=False)
    prompt = _prompt(model, fields.string("prompt_name", None))
    special = fields.flag("add_special_tokens", True)
    bound_texts(texts, most_characters(model.runtime.tokenizer.max_length), None)
    encode = model.runtime.tokenizer.encode_whole

    def write(text: str) -> bytes:
        full = f"{prompt}{text}"
        part = b"".join(write_pieces(_tokens(full, encode(full, special_tokens=special))))
        context.check_cost(answering, Cost(0, len(part)))
        return part

    async with context.texts.admitted(request.deadline):
        parts = await context.texts.map(write, texts)
    return Response(b"[" + b",".join(parts) + b"]")


async def decode(context: Context, request: Request, answering: Answering) -> Response:
    """POST /decode: the texts of token ids, `[str]`."""
    fields = Fields(await request.json())
    answering.model = model = context.models.only(request.model)
    size, value = model.vocab_size, fields.any("ids")
    most = most_characters(model.runtime.tokenizer.max_length)
    lists = await off_loop(len(request.body), lambda: _read_lists(value, size, most))
    check_count(len(lists), context.limits.inputs)
    skip = fields.flag("skip_special_tokens", True)
    tokenizer = model.runtime.tokenizer
    async with context.texts.admitted(request.deadline):
        texts = await context.texts.map(
            lambda ids: tokenizer.decode(ids, skip_special_tokens=skip), lists
        )
    return await json_response(texts, size=sum(map(len, texts)))


async def info(context: Context, request: Request, answering: Answering) -> Response:
    """GET /info: the model of the path, or the first one."""
    models = list(context.models)
    model = models[0] if request.model is None else context.models.named(request.model)
    answering.model = model
    facts, encoder = model.runtime.info, model.encoder
    limits = context.limits
    answer = {
        "model_id": facts["source"]["model"],
        "model_sha": facts["source"]["revision"],
        "model_dtype": facts["target"]["dtype"],
        "served_model_name": model.name,
        "model_type": _model_type(model),
        "max_concurrent_requests": model.batcher.max_waiting,
        "max_input_length": facts["max_length"] if encoder is None else encoder.max_length,
        "max_batch_tokens": facts["max_batch_tokens"],
        "max_batch_requests": None,
        "max_client_batch_size": limits.inputs,
        "auto_truncate": limits.auto_truncate,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }
    return await json_response(answer)


async def _read(
    context: Context, request: Request, fields: Fields, *, ids: bool = True
) -> list[Any]:
    """Return the texts and token ids of a request."""
    value, most = fields.any("inputs"), context.limits.inputs
    return await off_loop(len(request.body), lambda: read_inputs(value, most, ids=ids))


def read_inputs(value: Any, most: int, *, ids: bool = True) -> list[Any]:
    """Return texts, and token ids as TokenIds: `"a"`, `["a"]`, `[1, 2]` or `[[1, 2], "a"]`.

    Raises HttpError for anything else, for more than `most`, and for none or an empty one.
    """
    if isinstance(value, str) or (
        ids and isinstance(value, list) and value and all(is_id(one) for one in value)
    ):
        value = [value]
    if not isinstance(value, list):
        invalid("`inputs` has to be a string or a list", "inputs")
    check_count(len(value), most)
    if not value or any(one in ("", []) for one in value):
        raise HttpError(400, "`inputs` cannot be empty", "inputs")
    texts: list[Any] = []
    for one in value:
        if isinstance(one, str):
            texts.append(one)
        elif ids and _is_ids(one):
            texts.append(TokenIds(tuple(one)))
        else:
            what = "strings or lists of token ids" if ids else "strings"
            invalid(f"`inputs` has to hold {what}", "inputs")
    return texts


def _read_lists(value: Any, vocab_size: int, most: int) -> list[list[int]]:
    """Return lists of token ids, of which each has at most so many."""
    lists = value
    if isinstance(value, list) and value and all(is_id(one) for one in value):
        lists = [value]
    if not isinstance(lists, list) or not all(_is_ids(one) for one in lists):
        invalid("`ids` has to be a list of token ids, or a list of such lists", "ids")
    if any(id >= vocab_size for ids in lists for id in ids):
        invalid(f"`ids` has to be below {vocab_size}, the size of the vocabulary", "ids")
    if longest := max((len(ids) for ids in lists if len(ids) > most), default=0):
        invalid(f"`ids` has {longest} token ids and the limit is {most}: give fewer", "ids")
    return lists


def is_id(value: Any) -> bool:
    """Whether a value is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(is_id(one) for one in value)


def _read_predict(value: Any, most: int) -> tuple[list[Any], bool]:
    """Return texts and pairs, and whether there was a single one.

    `"a"` and `["a"]` are one text, `["a", "b"]` is a pair, and `[["a"], ["b", "c"]]` is a batch.
    """
    if isinstance(value, list):
        check_count(len(value), most)
    single = isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(part, str) for part in value)
    )
    batch = [value] if single else value
    if not isinstance(batch, list) or not batch or value == "":
        raise HttpError(400, "`inputs` cannot be empty", "inputs")
    inputs: list[Any] = []
    for one in batch:
        parts = [one] if isinstance(one, str) else one
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            invalid("`inputs` has to hold texts and pairs of texts", "inputs")
        if not 1 <= len(parts) <= 2:
            invalid("`inputs` has to hold texts and pairs of texts", "inputs")
        inputs.append(parts[0] if len(parts) == 1 else tuple(parts))
    return inputs, single


def _text_options(context: Context, model: Model, fields: Fields) -> dict[str, Any]:
    """Return the options that TEI's routes of vectors share."""
    prompt_name = _known_prompt(model, fields.string("prompt_name", None))
    return {**_truncation(context, fields), "prompt_name": prompt_name}


def _truncation(context: Context, fields: Fields) -> dict[str, Any]:
    """Return the options that say whether and where long texts are cut."""
    side = fields.choice("truncation_direction", None, _DIRECTIONS)
    return {
        "truncation": context.truncation(fields.flag("truncate", None)),
        "truncation_side": None if side is None else side.lower(),
    }


def _known_prompt(model: Model, name: str | None) -> str | None:
    """Return a prompt's name; the error for an unknown one lists those that clients look for."""
    prompts = {} if model.encoder is None else model.encoder.prompts
    if name is not None and name not in prompts:
        known = ", ".join(f'"{prompt}"' for prompt in prompts)
        invalid(f"unknown `prompt_name`. Available prompts: [{known}]", "prompt_name")
    return name


def _prompt(model: Model, name: str | None) -> str:
    """Return what is put before each text."""
    name, facts = _known_prompt(model, name), model.encoder
    if facts is None:
        return ""
    return choose_prompt(None, name, facts.prompts, facts.default_prompt_name)


def _dimensions(model: Model, dimensions: int | None) -> int | None:
    if dimensions is not None and model.embedding and dimensions > model.embedding.size:
        invalid(
            "`dimensions` should be smaller than the maximum embedding dimension.", "dimensions"
        )
    return dimensions


def _function(model: Model) -> str:
    """Return what turns logits into scores, by the number of labels."""
    return "sigmoid" if len(model.labels) == 1 else "softmax"


def _tokens(text: str, encoding: Encoding) -> list[dict[str, Any]]:
    """Return a text's tokens with their places in it; special tokens have none."""
    tokens = []
    parts = zip(
        encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True
    )
    for id, token, (start, stop), special in parts:
        tokens.append(
            {
                "id": id,
                "text": token if special else text[start:stop],
                "special": bool(special),
                "start": None if special else start,
                "stop": None if special else stop,
            }
        )
    return tokens


def _entries(vector: SparseVector) -> list[dict[str, Any]]:
    """Return a sparse vector as TEI does, in the order of the ids."""
    order = np.argsort(vector.ids)
    ids, weights = vector.ids[order].tolist(), vector.weights[order].tolist()
    return [{"index": id, "value": weight} for id, weight in zip(ids, weights, strict=True)]


def _model_type(model: Model) -> dict[str, Any]:
    """Return the kind of a model, in TEI's words where it has some."""
    if "embed" in model.can:
        pooling = () if model.embedding is None else model.embedding.pooling
        return {"embedding": {"pooling": _POOLINGS.get("+".join(pooling), "+".join(pooling))}}
    if model.task == "sparse-embedding":
        return {"embedding": {"pooling": "splade"}}
    if model.task == "multi-vector-embedding":
        # TEI has no word for it. Its clients ask for /embed_all only where there is an embedding,
        # and accept no pooling but TEI's own. Nothing here pools.
        return {"embedding": {"pooling": "cls"}}
    if "classify" in model.can:
        ids = {str(id): label for id, label in enumerate(model.labels)}
        labels = {label: id for id, label in enumerate(model.labels)}
        kind = "reranker" if "rerank" in model.can else "classifier"
        return {kind: {"id2label": ids, "label2id": labels}}
    return {model.task: {}}


# TEI's names of poolings where they differ.
_POOLINGS = {"lasttoken": "last_token"}
