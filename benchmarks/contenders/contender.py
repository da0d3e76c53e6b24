"""What a contender is: one way to serve a BERT checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.data.models import TASKS, Model

__all__ = ["Contender", "LoadedModel", "use_checkpoint"]


class LoadedModel(Protocol):
    """A model that a contender has loaded: B texts in, B answers out.

    Answers are float32: for embeddings [B, H], mean-pooled and of length 1; for classification
    logits [B, 2]; for fill-mask the logits over the vocabulary at each text's one [MASK], [B, V].
    Everything needed to get there is part of the call, and so of the measured time.

    A model of `benchmarks.contenders.registry.TEXTS` has no `run`: its library takes texts alone.

    A model that handles varying shapes differently, such as a compiled one, also has
    `run_varied`, with the arguments of `run`. A model with a batcher for live requests also has
    `async live_answer(text)`; see `benchmarks.harness.load_generator.serve_live`.

    For the task rerank a model has `rank(query, passages)` and needs nothing else: a text and N
    texts in, the logits of the pairs out, float32 [N], in the passages' order.
    """

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """Answer a padded batch of token ids, int64 [B, S] each."""

    def answer(self, texts: list[str]) -> np.ndarray:
        """Answer texts as a user of the library would: with its tokenizer and its batching."""


def use_checkpoint(model: Model, task: str, folder: Path) -> None:
    """Prepare nothing: the contender loads the checkpoint itself."""


@dataclass(frozen=True)
class Contender:
    """One way to serve a BERT checkpoint.

    The modules that define contenders import only the standard library, numpy and `benchmarks` at
    the top level, because the parent process reads these fields. Libraries are imported in the
    functions that use them.

    Args:
        title: its name in tables.
        precision: "float32", "float16", "bfloat16" or "int8"; sets the error that is allowed.
        packages: the distributions whose versions are recorded with its times.
        missing: returns why it cannot run here, in one sentence, or None.
        load: `load(model, task, folder, threads)` loads what `prepare` wrote into `folder`.
        prepare: `prepare(model, task, folder)` exports or quantizes into `folder`; runs once and
            is not timed.
        tasks: which of `ALL_TASKS` it supports.
        environment: "bench", or that of another `tests/peers/NAME_environment.sh`: the virtual
            environment that its worker runs in.
    """

    title: str
    precision: str
    packages: tuple[str, ...]
    missing: Callable[[], str | None]
    load: Callable[[Model, str, Path, int], LoadedModel]
    prepare: Callable[[Model, str, Path], None] = use_checkpoint
    tasks: tuple[str, ...] = TASKS
    environment: str = "bench"
