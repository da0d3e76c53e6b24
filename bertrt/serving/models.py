"""The models that a server has: each an artifact with its runtime and its batcher."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import EmbeddingFacts, EncoderFacts
from bertrt.errors import InputError
from bertrt.heads.zero_shot_classification import entailment_id
from bertrt.runtime import Runtime
from bertrt.scheduling.answered import Answered
from bertrt.scheduling.dynamic_batcher import DynamicBatcher
from bertrt.serving.array_runner import ArrayRunner
from bertrt.serving.errors import HttpError

__all__ = ["Model", "Models"]


@dataclass
class Model:
    """A model under its name.

    Attributes:
        name: the name that clients use.
        artifact: what was exported.
        runtime, batcher: what answers.
        created: the Unix time at which it was loaded.
        in_flight: how many requests wait for it or are answered by it.
    """

    name: str
    artifact: Artifact
    runtime: Runtime
    batcher: DynamicBatcher
    created: int
    in_flight: int = 0

    @cached_property
    def task(self) -> str:
        """The task of its head."""
        return str(self.runtime.info["task"])

    @property
    def embedding(self) -> EmbeddingFacts | None:
        """How it makes a vector; None if it makes none."""
        return self.artifact.manifest.embedding

    @property
    def encoder(self) -> EncoderFacts | None:
        """How it takes texts and compares their vectors; None if it gives none."""
        facts = self.artifact.manifest.facts
        return facts if isinstance(facts, EncoderFacts) else None

    @property
    def vocab_size(self) -> int:
        """How many token ids it knows."""
        return self.artifact.config.vocab_size

    @cached_property
    def labels(self) -> list[str]:
        """Its labels."""
        return list(self.runtime.info["labels"])

    @cached_property
    def can(self) -> frozenset[str]:
        """What it can do: its task, and "embed", "embed_all", "classify", "rerank" and others."""
        abilities = {self.task}
        if self.task == "feature-extraction":
            abilities |= {"embed", "embed_all"}
        if self.task == "multi-vector-embedding":
            abilities |= {"embed_all", "rerank"}
        if self.task in ("text-classification", "zero-shot-classification"):
            abilities |= {"text-classification", "classify"}
            if len(self.labels) == 1:
                abilities.add("rerank")
            with contextlib.suppress(InputError):
                entailment_id(self.artifact.config)
                abilities.add("zero-shot-classification")
        return frozenset(abilities)

    @cached_property
    def arrays(self) -> ArrayRunner:
        """What runs arrays through its graph."""
        return ArrayRunner(self.runtime)

    async def answer(
        self, method: str, inputs: Sequence[Any], deadline: float | None, /, **options: Any
    ) -> Answered:
        """Answer a list of inputs through the batcher; see `DynamicBatcher.amany`."""
        self.in_flight += 1
        try:
            return await self.batcher.amany(method, inputs, deadline=deadline, **options)
        finally:
            self.in_flight -= 1


class Models:
    """The models of a server, by name."""

    def __init__(self, models: Sequence[Model]) -> None:
        """Serve these models, whose names differ."""
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def named(self, name: str) -> Model:
        """Return the model of a name. Raises HttpError if there is none."""
        if name not in self._models:
            raise self._unknown(name)
        return self._models[name]

    def choose(self, ability: str, *names: str | None) -> Model:
        """Return the model of the first name that is given, or else the one that can do something.

        Clients often send the name of another provider's model. It is accepted where a single
        model can do what is asked for.

        Args:
            ability: what the model has to be able to do.
            names: the name in the path's prefix, which has to be right, and those in the body.

        Raises HttpError for an unknown name among several models, if no model or several can do it,
        and for a model that cannot.
        """
        fitting = [model for model in self if ability in model.can]
        prefix, *others = names or (None,)
        if prefix is not None:
            return self._able(self.named(prefix), ability)
        for name in others:
            if name is not None and name in self._models:
                return self._able(self._models[name], ability)
        if len(fitting) == 1:
            return fitting[0]
        named = next((name for name in others if name is not None), None)
        if named is not None:
            raise self._unknown(named)
        if not fitting and ability == "sparse-embedding":
            raise HttpError(424, _REFUSALS[ability])
        if not fitting:
            raise HttpError(424, f"no model here can {_WORDS.get(ability, ability)}")
        raise HttpError(
            400, f"name a model: {', '.join(repr(model.name) for model in fitting)}", "model"
        )

    def only(self, *names: str | None) -> Model:
        """Return the model of the first name that is given, or else the only one.

        Raises HttpError for an unknown name, and for none among several models.
        """
        name = next((name for name in names if name is not None), None)
        if name is not None:
            return self.named(name)
        models = list(self)
        if len(models) != 1:
            names_of_all = ", ".join(repr(model.name) for model in models)
            raise HttpError(400, f"name a model, in the path /models/NAME: {names_of_all}", "model")
        return models[0]

    def close(self) -> None:
        """Answer what was accepted, and free the models."""
        for model in self:
            model.runtime.close()

    def _able(self, model: Model, ability: str) -> Model:
        if ability in model.can:
            return model
        if ability in _REFUSALS:
            raise HttpError(424, _REFUSALS[ability])
        raise HttpError(424, f"model {model.name!r} cannot {_WORDS.get(ability, ability)}")

    def _unknown(self, name: str) -> HttpError:
        loaded = ", ".join(repr(known) for known in self._models)
        message = f"no model {name[:100]!r}; loaded: {loaded}"
        return HttpError(404, message, "model", "model_not_found")


# What clients of Text Embeddings Inference are told of a model that cannot.
_REFUSALS = {
    "rerank": "model is not a re-ranker model",
    "sparse-embedding": "Model is not an embedding model with SPLADE pooling",
}
# Abilities that are not the name of a task, in words.
_WORDS = {
    "embed": "embed texts",
    "embed_all": "embed tokens",
    "classify": "classify texts",
    "rerank": "re-rank texts",
}
