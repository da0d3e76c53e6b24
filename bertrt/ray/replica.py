"""What a replica of Ray Serve does: it opens its models, answers with them, and closes them."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from bertrt.errors import BertrtError, InputError, shorten
from bertrt.heads.reranking import check_ranking, rank_documents
from bertrt.ray.one_request_id import OneRequestId
from bertrt.ray.settings import ReplicaSettings
from bertrt.ray.sources import Source, Sources, find, name_models
from bertrt.scheduling.threads import choose_threads
from bertrt.serving.app import App
from bertrt.serving.context import Context
from bertrt.serving.keys import read_keys
from bertrt.serving.loading import open_model
from bertrt.serving.message import Application
from bertrt.serving.models import Model, Models

__all__ = ["HttpReplica", "Replica"]


class Replica:
    """Answers calls of a DeploymentHandle, through the batcher that HTTP requests go through.

    Methods take what the methods of `bertrt.Runtime` with these names take, and give the same
    answers: a single answer to a single input, a list or an array to a list. `model` is the name of
    one of several models. Calls that come at the same time share batches.

    The caller gets InputError for what cannot be used, BusyError when too much waits, and
    DeadlineError for what has waited for `request_timeout`. Large arrays are read-only.
    """

    def __init__(self, models: Sources, **settings: Any) -> None:
        """Open the models and warm them up; Ray tells why one cannot be served.

        Args:
            models: as for `app`.
            settings: the attributes of `ReplicaSettings`.
        """
        chosen = ReplicaSettings.read(settings)
        chosen = replace(chosen, threads=_threads(chosen.threads))
        sources = name_models(models)
        self._settings = chosen
        self._context = Context.loading(list(sources), chosen)
        # Ray warns of `ray.get` in the thread of an event loop, which this is.
        with ThreadPoolExecutor(1) as thread:
            self._context.start(thread.submit(_open, sources, chosen).result())

    async def answer(self, inputs: Any, *, model: str | None = None, **options: Any) -> Any:
        """Return what `Runtime.__call__` answers to one input or a list."""
        return await self._answer("call", inputs, model, options)

    async def embed(self, texts: Any, *, model: str | None = None, **options: Any) -> Any:
        """Return vectors: float32 [H] of a text, [n, H] of a list; see `Runtime.embed`."""
        return await self._answer("embed", texts, model, options)

    async def embed_sparse(self, texts: Any, *, model: str | None = None, **options: Any) -> Any:
        """Return sparse vectors, one or a list; see `Runtime.embed_sparse`."""
        return await self._answer("embed_sparse", texts, model, options)

    async def score(self, pairs: Any, *, model: str | None = None, **options: Any) -> Any:
        """Return scores: a float of a pair, float32 [n] of a list; see `Runtime.score`."""
        return await self._answer("score", pairs, model, options)

    async def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str | None = None,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Return `[{"corpus_id", "score"}, …]`, best first; see `Runtime.rank`."""
        check_ranking(query, documents, top_k, return_documents)
        scores = np.empty(0, np.float32)
        if documents:
            scores = await self._scores(self._model(model), query, documents, options)
        return rank_documents(documents, scores, top_k=top_k, return_documents=return_documents)

    async def check_health(self) -> None:
        """Raise if a thread that answers has died; Ray then starts another replica."""
        if not self._context.is_alive:
            raise BertrtError("a thread of a model's batcher has died: the replica cannot answer")

    def __del__(self) -> None:
        # Ray calls this once the replica's requests are answered.
        if (context := getattr(self, "_context", None)) is not None:
            context.is_ready = False
            context.models.close()

    async def _answer(
        self, method: str, inputs: Any, name: str | None, options: Mapping[str, Any]
    ) -> Any:
        model = self._model(name)
        if isinstance(inputs, list):
            return await self._many(model, method, inputs, options)
        return (await self._many(model, method, [inputs], options))[0]

    async def _scores(
        self, model: Model, query: str, documents: Sequence[str], options: Mapping[str, Any]
    ) -> Any:
        if model.task != "multi-vector-embedding":
            pairs = [(query, document) for document in documents]
            return await self._many(model, "score", pairs, options)
        # `max_length` is that of documents.
        of_query = {key: value for key, value in options.items() if key != "max_length"}
        [vectors] = await self._many(model, "embed_tokens", [query], {**of_query, "kind": "query"})
        return await self._many(model, "maxsim", documents, {**options, "query": vectors})

    async def _many(
        self, model: Model, method: str, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> Any:
        deadline = time.monotonic() + self._settings.request_timeout
        return (await model.answer(method, inputs, deadline, **options)).answers

    def _model(self, name: str | None) -> Model:
        """Return a model by its name, or the only one. Raises InputError if there is none."""
        models = {model.name: model for model in self._context.models}
        if name is None and len(models) == 1:
            return next(iter(models.values()))
        if name not in models:
            raise InputError(
                f"model is {shorten(name)}: give one of {', '.join(map(repr, models))}"
            )
        return models[name]


class HttpReplica(Replica):
    """Answers HTTP requests as `bertrt serve` does, and calls of a DeploymentHandle."""

    def __serve_build_asgi_app__(self) -> Application:
        """Return the application; Ray calls this after `__init__`, in the event loop's thread."""
        file = self._settings.api_key_file
        return OneRequestId(App(self._context, read_keys(None if file is None else Path(file))))


def _open(sources: Mapping[str, Source], settings: ReplicaSettings) -> Models:
    """Open all models, or none."""
    opened: list[Model] = []
    try:
        for name, source in sources.items():
            opened.append(open_model(name, find(source), settings))
    except BaseException:
        Models(opened).close()
        raise
    return Models(opened)


def _threads(threads: int | str) -> int:
    """Return the threads of a replica: "auto" are the CPUs that Ray has reserved for it.

    Ray limits neither the affinity nor the cgroup of its processes, so each replica would take all
    of a node's CPUs.
    """
    if isinstance(threads, int):
        return threads
    reserved = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0))
    return max(1, min(reserved, choose_threads().count))
