"""The runtime: an artifact's tokenizer, sessions and head, which together answer texts."""

import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.arrays.interop import converter
from bertrt.arrays.model_output import ModelOutput
from bertrt.arrays.outputs import group_layer_outputs
from bertrt.artifact.directory import Artifact
from bertrt.checks import check_flag, check_whole
from bertrt.errors import InputError
from bertrt.heads import HEADS
from bertrt.heads.calls import CallParser
from bertrt.heads.feature_extraction import FeatureExtraction
from bertrt.heads.multi_vector_embedding import MultiVectorEmbedding
from bertrt.heads.request import Answer
from bertrt.heads.sparse_embedding import SparseEmbedding
from bertrt.methods.ranking import RankingMethods
from bertrt.methods.vectors import VectorMethods
from bertrt.progress import check_progress
from bertrt.scheduling.batch_runner import BatchRunner
from bertrt.scheduling.dynamic_batcher import DynamicBatcher
from bertrt.scheduling.session_pool import SessionPool
from bertrt.scheduling.threads import choose_threads
from bertrt.tokenizer import Tokenizer
from bertrt.tokens import pad

__all__ = ["Runtime", "load"]

# The sections of the manifest that say how a model makes its vectors.
_SECTIONS = ("embedding", "sparse", "multi_vector")


def load(
    directory: str | Path,
    *,
    task: str | None = None,
    threads: int | str = "auto",
    allow_spinning: bool = True,
    max_batch_tokens: int | str = "auto",
    workers: int | str = "auto",
) -> "Runtime":
    """Open an artifact directory that `bertrt export` wrote. Never downloads anything.

    Args:
        directory: the artifact.
        task: another task over the same graph (zero-shot-classification over
            text-classification); the artifact's own when None.
        threads: the number of threads, or "auto" for the CPUs that this process may use.
        allow_spinning: whether idle threads spin for a moment (about 50 ms of CPU time after each
            call) before they sleep. Spinning is fastest on CPUs that nothing else uses; on shared
            CPUs, False is kinder and often faster.
        max_batch_tokens: the most padded tokens of a batch of texts, or "auto" for a number that
            suits this machine's caches. Large arrays run in chunks of one to two times that size.
        workers: how many batches of texts, or chunks of large arrays, run at a time; "auto" is one
            for each thread. Workers have a session of their own, so a process that also asks for
            single texts holds the weights twice; 1 runs everything in one session.

    Raises ArtifactError if the directory is not a valid artifact, and InputError for a task that
    its graph cannot serve. Files above 16 MB are hashed while the graph is opened, so the first
    call, not `load`, raises ArtifactError if one of them is damaged.
    """
    artifact = Artifact.open(directory, large_files_later=True)
    return Runtime(
        artifact,
        task=task,
        threads=threads,
        allow_spinning=allow_spinning,
        max_batch_tokens=max_batch_tokens,
        workers=workers,
    )


class Runtime(VectorMethods, RankingMethods):
    """An opened artifact. Thread-safe; can be pickled, and used after a fork."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        task: str | None = None,
        threads: int | str = "auto",
        allow_spinning: bool = True,
        max_batch_tokens: int | str = "auto",
        workers: int | str = "auto",
    ) -> None:
        """Answer with an opened artifact; see `load`."""
        check_flag("allow_spinning", allow_spinning)
        manifest = artifact.manifest
        self._artifact = artifact
        self._tokenizer = Tokenizer(
            (artifact.path / "tokenizer.json").read_text(encoding="utf-8"), manifest.tokenizer
        )
        self._calls = CallParser(
            _check_task(task or manifest.task, manifest.task),
            self._tokenizer,
            artifact.config,
            [spec.name for spec in manifest.graph.outputs],
            manifest.facts,
            _read_arrays(artifact),
        )
        self._pool = SessionPool(
            artifact,
            threads=choose_threads(threads),
            allow_spinning=allow_spinning,
            max_batch_tokens=max_batch_tokens,
            workers=workers,
        )
        self._runner = BatchRunner(artifact, self._tokenizer, self._pool)
        self._reset()

    def _reset(self) -> None:
        self._batchers: list[weakref.ref[DynamicBatcher]] = []
        self._own: dict[str, DynamicBatcher] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_batchers", "_own")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __call__(self, *inputs: Any, **options: Any) -> Answer:
        """Answer one input, a list of inputs, or an iterator of them.

        A single input gives a single answer, a list gives a list in the same order, and an
        iterator gives an iterator that reads at most a thousand inputs ahead. The head defines
        its inputs and options: see the guide on tasks.

        `progress=True` draws a bar on standard error if that is a terminal. A function given as
        `progress` is called with the number of inputs done, of all inputs (None for an iterator),
        and the same in words.

        Raises InputError for an input or option that the head cannot use; nothing runs then.
        """
        progress = options.pop("progress", False)
        check_progress(progress)
        return self._answer(self._calls.parse(options), inputs, progress)

    def tokenize(self, text: Any, pair: Any = None, **options: Any) -> dict[str, np.ndarray]:
        """Return the arrays that `run` takes, each int64 [B, S]; B is 1 for a single text.

        Args:
            text: a text, or a list of texts.
            pair: the second text of a pair, or a list of as many.
            options: `truncation`, `max_length` and `truncation_side`, as in every call.

        Raises InputError for texts that cannot be encoded.
        """
        known = ("truncation", "max_length", "truncation_side")
        if unknown := set(options) - {*known}:
            raise InputError(f"tokenize has no option {min(unknown)!r}: it has {', '.join(known)}")
        texts = text if isinstance(text, list) else [text]
        pairs = pair if isinstance(pair, list) else [pair] * len(texts)
        if not texts or len(pairs) != len(texts):
            raise InputError(f"tokenize got {len(texts)} texts and {len(pairs)} pairs")
        encodings = [
            self._tokenizer.encode(first, second, **options)
            for first, second in zip(texts, pairs, strict=True)
        ]
        tokenizer = self._tokenizer
        return pad(encodings, tokenizer.pad_id, one_token_type=tokenizer.one_token_type)

    def run(
        self, *, outputs: Sequence[str] | None = None, like: Any = None, **arrays: Any
    ) -> ModelOutput:
        """Run the graph on arrays and return its outputs by name, float32.

        Args:
            outputs: the names of the outputs to return; None for those of transformers' model.
                A graph may have others: `info["outputs"]` lists all.
            like: an array of numpy, PyTorch, JAX, TensorFlow or CuPy; the results have its type
                and device. numpy arrays when None.
            arrays: `input_ids`, integers [B, S] ([B, C, S] for multiple choice), and optionally
                `attention_mask` (ones), `token_type_ids` (zeros) and, for a decoder, the
                key/value cache `past_key_values.{layer}.key` and `.value` (empty), float32
                [B, N, past, D]. Some graphs take flags: with `first_token_only=True`,
                `last_hidden_state` is [B, 1, H], the first token's; with `masked_only=True`, the
                logits over the vocabulary are [R, 1, V], those of the R mask tokens in
                `input_ids`, row by row. Arrays may come from any of the libraries above.

        Outputs are items and attributes: `output["logits"]`, `output.logits`. A graph exported
        with `--output-hidden-states` or `--output-attentions` gives `hidden_states`, a tuple of
        L + 1 arrays [B, S, H], and `attentions`, a tuple of L arrays [B, N, S, S]; for multiple
        choice B counts the choices of all questions.

        With the Triton engine, arrays of PyTorch, CuPy and JAX that are on the GPU stay there, and
        so do results if `like` is there. The run is ordered after PyTorch's current stream, and
        does not wait for results that stay on the GPU.

        Raises InputError if the arrays do not fit the graph; padding has to be on the right.
        """
        convert = None if like is None else converter(like)
        values = self._runner.run(outputs=outputs, like=like, **arrays)
        if convert is not None:
            values = {name: convert(value) for name, value in values.items()}
        return ModelOutput(group_layer_outputs(values, outputs))

    def batcher(
        self,
        *,
        max_waiting: int = 2048,
        max_waiting_tokens: int = 262_144,
        max_batch_tokens: int | None = None,
        workers: int | None = None,
    ) -> DynamicBatcher:
        """Open a dynamic batcher, which merges requests that come at the same time.

        Args:
            max_waiting: the most texts that may wait; a request that does not fit is a BusyError.
                Each window, label or choice that an input is run with counts as a text.
            max_waiting_tokens: the most tokens that may wait, in the same way.
            max_batch_tokens: the most padded tokens of a batch; as for `load` when None.
            workers: how many batches run at a time. None is two if there are as many threads, and
                one on a GPU. Each worker is one of the runtime's threads, and they share the
                others, in a session of their own that stays open until the runtime is closed; a
                process that uses only batchers opens no other. With one worker the batcher uses
                the runtime's session, which answers a lone request faster and many more slowly.

        Raises InputError for a number below 1, and for more workers than threads; BertrtError if
        the runtime is closed.
        """
        self._pool.check_open()
        threads = self._pool.wide.threads.count
        if workers is None:
            # A GPU runs one batch at a time, and a second session would hold the weights twice.
            workers = 1 if self._pool.target.device == "cuda" else min(2, threads)
        check_whole("workers", workers, least=1)
        if workers > threads:
            raise InputError(
                f"workers is {workers}, but threads are {threads}: give at most {threads}, or load "
                "the artifact with more threads"
            )
        runner = self._runner.for_workers(workers)
        if max_batch_tokens is None:
            max_batch_tokens = runner.max_batch_tokens
        batcher = DynamicBatcher(
            self._calls,
            runner,
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            max_batch_tokens=max_batch_tokens,
            workers=workers,
        )
        # Both calls are atomic, so threads need no lock. The callback forgets a freed batcher.
        self._batchers.append(weakref.ref(batcher, self._batchers.remove))
        return batcher

    async def acall(self, *inputs: Any, **options: Any) -> Answer:
        """Return the answer to one input, for asyncio, through the runtime's own batcher."""
        return await self._own_batcher().acall(*inputs, **options)

    async def aembed_sparse(self, text: Any, **options: Any) -> Any:
        """Return one text's vector as `embed_sparse` does, for asyncio, through that batcher."""
        return await self._own_batcher().aembed_sparse(text, **options)

    async def aembed(self, text: Any, **options: Any) -> Any:
        """Return one text's vector as `embed` does, for asyncio, through the same batcher."""
        return await self._own_batcher().aembed(text, **options)

    def warmup(self, shapes: Sequence[tuple[int, int]] = ((1, 8), (1, 32), (1, 128))) -> None:
        """Open the session and run it once at each shape (batch, sequence).

        Call this before serving: the first run of a process opens the graph. Batches of texts and
        large arrays have a session of their own (`workers` of `load`), which a shape of
        (threads, 512) opens too.

        Raises InputError unless each shape is two whole numbers of at least 1.
        """
        self._runner.warmup(shapes)

    @property
    def tokenizer(self) -> Tokenizer:
        """The artifact's tokenizer."""
        return self._tokenizer

    @property
    def info(self) -> dict[str, Any]:
        """What was loaded and how it runs; plain Python."""
        manifest = self._artifact.manifest
        head = self._calls.head
        vectors: dict[str, Any] = {}
        if isinstance(head, (FeatureExtraction, SparseEmbedding, MultiVectorEmbedding)):
            sections = {name: getattr(manifest, name) for name in _SECTIONS}
            vectors = {name: asdict(facts) for name, facts in sections.items() if facts}
            vectors["truncated"] = head.truncated
        return {
            "task": self._calls.head.task,
            "architecture": manifest.architecture,
            "source": dict(manifest.source),
            "target": dict(manifest.target),
            "labels": list(self._artifact.config.labels),
            "outputs": [spec.name for spec in manifest.graph.outputs],
            "max_length": self._tokenizer.max_length,
            **vectors,
            **self._pool.info(),
            "fused": dict(manifest.graph.fused),
            "parity": dict(manifest.parity),
        }

    def close(self) -> None:
        """Close the batchers and free the sessions. A later call is an error; closing twice is not.

        Requests that batchers have accepted are answered first.
        """
        for reference in list(self._batchers):
            if (batcher := reference()) is not None:
                batcher.close()
        self._own.clear()
        self._pool.close()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<bertrt.Runtime {self._calls.head.task} from {str(self._artifact.path)!r}>"

    def _own_batcher(self) -> DynamicBatcher:
        """The batcher behind `acall` and `aembed`, opened on first use."""
        if "own" not in self._own:
            # setdefault is atomic: threads that come at the same time get the same batcher.
            self._own.setdefault("own", self.batcher())
        return self._own["own"]


def _read_arrays(artifact: Artifact) -> dict[str, np.ndarray]:
    """Return the arrays beside the graph, by their files' names."""
    names = [entry.name for entry in artifact.manifest.files if entry.name.endswith(".npy")]
    return {name: np.load(artifact.path / name, allow_pickle=False) for name in names}


def _check_task(task: str, exported: str) -> str:
    """Return the task if an artifact exported for `exported` serves it.

    Raises InputError if it does not.
    """
    served = {exported}
    if exported in ("text-classification", "zero-shot-classification"):
        served = {"text-classification", "zero-shot-classification"}
    if task not in served or task not in HEADS:
        raise InputError(
            f"this artifact serves {', '.join(sorted(served))}, not {task!r}: "
            "export the checkpoint again with --task"
        )
    return task
