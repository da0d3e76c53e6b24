"""The runtime: an artifact's tokenizer, session and head joined, answering in the head's terms."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.arrays.interop import converter
from bertrt.arrays.model_output import ModelOutput
from bertrt.arrays.outputs import group_layer_outputs
from bertrt.artifact.directory import Artifact
from bertrt.checks import check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads import HEADS
from bertrt.heads.base import Answer, GraphRunner, Head, HeadRequest, SampleOutputs
from bertrt.heads.feature_extraction import EmbedOptions, FeatureExtraction
from bertrt.progress import Tell, WatchedModel, check_progress, telling
from bertrt.scheduling.batch_runner import BatchRunner
from bertrt.scheduling.dynamic_batcher import DynamicBatcher, close_streams
from bertrt.scheduling.threads import choose_threads
from bertrt.tokenizer import Tokenizer, pad

__all__ = ["Runtime", "load"]

# Inputs of an iterator that are answered together: enough to sort well, few enough to hold.
_CHUNK = 1024


def load(
    directory: str | Path,
    *,
    task: str | None = None,
    threads: int | str = "auto",
    spinning: bool = True,
    batch_tokens: int | str = "auto",
    workers: int | str = "auto",
) -> "Runtime":
    """Open an artifact directory that `bertrt export` wrote. Nothing is ever downloaded.

    Args:
        directory: the artifact.
        task: another task over the same graph (zero-shot-classification over
            text-classification); the artifact's own when None.
        threads: the number of threads, or "auto" for the CPUs that this process may use.
        spinning: whether idle threads stay awake for a moment (some 50 ms of CPU time after each
            call), which is fastest on CPUs of one's own; False lets them sleep, which is kinder
            and often faster on CPUs that others use too.
        batch_tokens: the most padded tokens that many texts are batched to, or "auto" for what
            suits this machine's caches. Large arrays are run in pieces of one to some two times
            that size.
        workers: how many batches of many texts, or pieces of large arrays, are run at a time;
            "auto" is as many as there are threads. They have a session of their own, so that a
            process that asks for single texts too holds the weights twice; 1 runs all in one
            session, each batch by all threads.

    Raises ArtifactError for a directory that is not a sound artifact, and InputError for a task
    that its graph cannot serve. Files above 16 MB are hashed while the graph is opened, so that
    damage to one is an ArtifactError of the first call.
    """
    artifact = Artifact.open(directory, large_files_later=True)
    return Runtime(
        artifact,
        task=task,
        threads=threads,
        spinning=spinning,
        batch_tokens=batch_tokens,
        workers=workers,
    )


class Runtime:
    """An opened artifact. Safe to call from many threads, to pickle, and to use after a fork."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        task: str | None = None,
        threads: int | str = "auto",
        spinning: bool = True,
        batch_tokens: int | str = "auto",
        workers: int | str = "auto",
    ) -> None:
        """Join an opened artifact's parts; see `load`."""
        if not isinstance(spinning, bool):
            raise InputError(f"spinning is {spinning!r}: give True or False")
        manifest = artifact.manifest
        self._artifact = artifact
        self._tokenizer = Tokenizer(
            (artifact.path / "tokenizer.json").read_text(encoding="utf-8"), manifest.tokenizer
        )
        self._head = _head(task or manifest.task, manifest.task)(self._tokenizer, artifact.config)
        self._executor = BatchRunner(
            artifact,
            self._tokenizer,
            threads=choose_threads(threads),
            spinning=spinning,
            batch_tokens=batch_tokens,
            workers=workers,
        )
        self._streams: dict[str, DynamicBatcher] = {}

    def __call__(self, *inputs: Any, **options: Any) -> Answer:
        """Answer one input, a list of inputs, or an iterator of them.

        A single input gives a single answer, a list gives a list in the same order, and an
        iterator gives an iterator that reads ahead by at most a thousand inputs. What an input
        is, and which options there are, is the head's: see the README.

        `progress=True` draws a bar on standard error, if that is a terminal; a function given as
        `progress` is called with the number of inputs that are done and of all (None for an
        iterator).

        Raises InputError for input or options that the head cannot use; nothing is computed then.
        """
        progress = options.pop("progress", False)
        check_progress(progress)
        head = self._head_for(options)
        named = {name: options.pop(name) for name in head.input_names if name in options}
        parsed = head.parse_options(options)
        if len(inputs) == 1 and isinstance(inputs[0], Iterator):

            def answer(chunk: list[Any], model: WatchedModel) -> list[Answer]:
                return head.answers(_each(head.inputs(chunk, **named)[0], chunk), model, parsed)

            return self._in_chunks(inputs[0], progress, answer)
        parts, single = head.inputs(*inputs, **named)
        with telling(progress) as tell:
            answers = head.answers(parts, self._watched(len(parts), tell), parsed)
            tell(len(parts), len(parts))
        return head.single(answers[0], parts[0], options) if single else answers

    def encode(self, text: Any, pair: Any = None, **options: Any) -> dict[str, np.ndarray]:
        """Text to the arrays that `run` takes, each int64 [B, S]; B is 1 for a single text.

        Args:
            text: a text, or a list of texts.
            pair: the second text of a pair, or a list of as many.
            options: `truncation` and `max_length`, as in every call.

        Raises InputError for texts that cannot be encoded.
        """
        unknown = set(options) - {"truncation", "max_length"}
        if unknown:
            raise InputError(f"encode has no option {min(unknown)!r}: truncation, max_length")
        texts = text if isinstance(text, list) else [text]
        pairs = pair if isinstance(pair, list) else [pair] * len(texts)
        if not texts or len(pairs) != len(texts):
            raise InputError(f"encode got {len(texts)} texts and {len(pairs)} pairs")
        encodings = [
            self._tokenizer.encode(one, other, **options)
            for one, other in zip(texts, pairs, strict=True)
        ]
        return pad(encodings, self._tokenizer.pad_id)

    def embed(
        self,
        texts: Any,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        dimensions: int | None = None,
        truncation: bool | str = False,
        max_length: int | None = None,
        progress: bool | Tell = False,
    ) -> Any:
        """One vector a text, of a feature-extraction artifact.

        Args:
            texts: a text, a list of texts, or an iterator of them; a pair as in every call.
            pooling: "mean" or "max" over the text's tokens, [CLS] and [SEP] among them; "cls" for
                the first token's; "pooler" for the checkpoint's own pooler, if it has one.
            normalize: whether to scale each vector to a Euclidean length of 1.
            dimensions: how many leading dimensions to keep, before scaling (for models trained
                for it, Matryoshka); None keeps all.
            truncation, max_length, progress: as in every call.

        Returns float32 [H] for a text, [n, H] for a list, and an iterator of [H] for an iterator,
        where H is the hidden size, or `dimensions`.

        Raises InputError for input or options that cannot be used, and on another task's artifact.
        """
        head, outputs = self._embedding()
        check_progress(progress)
        options = EmbedOptions(
            pooling=pooling,
            normalize=normalize,
            dimensions=dimensions,
            truncation=truncation,
            max_length=max_length,
        )
        head.check_embed(options, outputs)
        if isinstance(texts, Iterator):

            def vectors_of(chunk: list[Any], model: WatchedModel) -> np.ndarray:
                return head.embed(head.inputs(chunk)[0], model, options, outputs)

            return self._in_chunks(texts, progress, vectors_of)
        parts, single = head.inputs(texts)
        with telling(progress) as tell:
            vectors = head.embed(parts, self._watched(len(parts), tell), options, outputs)
            tell(len(parts), len(parts))
        return vectors[0] if single else vectors

    def run(
        self, *, outputs: Sequence[str] | None = None, like: Any = None, **arrays: Any
    ) -> ModelOutput:
        """Run the raw graph on arrays and return its outputs by name, float32.

        Args:
            outputs: the names of the outputs to return; None for those of transformers' model.
                A graph may have others: `info["outputs"]` lists all.
            like: an array of numpy, PyTorch, JAX, TensorFlow or CuPy: the results are of its kind
                and on its device. numpy's when None.
            arrays: `input_ids`, integers [B, S] ([B, C, S] for multiple choice), and optionally
                `attention_mask` (ones), `token_type_ids` (zeros) and, for a decoder, the
                key/value cache `past_key_values.{layer}.key` and `.value` (empty), float32
                [B, N, past, D]. Some graphs take a truth value: with `first_token_only=True`
                `last_hidden_state` is [B, 1, H], the first token's; with `masked_only=True` the
                logits over the vocabulary are [R, 1, V], those of the R mask tokens in
                `input_ids`, row by row. Each may be an array of any library.

        The outputs are items and attributes: `output["logits"]`, `output.logits`. A graph exported
        with `--output-hidden-states` or `--output-attentions` gives `hidden_states`, a tuple of
        L + 1 arrays [B, S, H], and `attentions`, one of L arrays [B, N, S, S]; for multiple choice
        B counts the choices of all questions.

        With the Triton engine, arrays of PyTorch, CuPy and JAX that are on the GPU stay there, and
        so do results where `like` is there. This works in the order of PyTorch's current stream,
        and does not wait for results that stay.

        Raises InputError when they do not fit the graph; padding has to be on the right.
        """
        convert = None if like is None else converter(like)
        values = self._executor.run(outputs=outputs, like=like, **arrays)
        if convert is not None:
            values = {name: convert(value) for name, value in values.items()}
        return ModelOutput(group_layer_outputs(values, outputs))

    def stream(
        self,
        *,
        max_waiting: int = 1024,
        max_tokens: int | None = None,
        workers: int | None = None,
    ) -> DynamicBatcher:
        """Merge requests that come at the same time; see `DynamicBatcher`.

        Args:
            max_waiting: the most requests that wait; one more is a BusyError.
            max_tokens: the most padded tokens of a batch; None is as for `batch_tokens`.
            workers: how many batches are run at a time; two when None, if there are as many
                threads, and one on a GPU. Each worker is one of the runtime's threads, and they
                share the others, in a session of their own, which stays open until the runtime is
                closed: a process that uses only streams opens no other. With one worker the stream
                runs on the runtime's session, which answers a lone request faster and many more
                slowly.

        Raises InputError for what is not a whole number of at least 1, and for more workers than
        threads; BertrtError when the runtime is closed.
        """
        self._executor.check_open()
        threads = self._executor.threads.count
        if workers is None:
            # A GPU runs one batch at a time, and a second session would hold the weights twice.
            workers = 1 if self._executor.target.device == "cuda" else min(2, threads)
        check_whole("workers", workers, least=1)
        if workers > threads:
            raise InputError(
                f"workers is {workers}, and this runtime has {threads} threads: give at most as "
                "many, or load the artifact with more threads"
            )
        executor = self._executor.for_workers(workers)
        if max_tokens is None:
            max_tokens = executor.budget.tokens
        return DynamicBatcher(
            self, executor, max_waiting=max_waiting, max_tokens=max_tokens, workers=workers
        )

    async def acall(self, *inputs: Any, **options: Any) -> Answer:
        """The answer to one input, for asyncio, through a stream that is the runtime's own."""
        return await self._own_stream().acall(*inputs, **options)

    async def aembed(self, text: Any, **options: Any) -> Any:
        """One text's vector, as `embed` gives it, for asyncio; through the same stream."""
        return await self._own_stream().aembed(text, **options)

    def ask(self, model: GraphRunner, *inputs: Any, **options: Any) -> HeadRequest:
        """What a call with one input asks of `model`, and how that becomes its answer.

        Raises InputError as the call does, and for more than one input.
        """
        head = self._head_for(options)
        named = {name: options.pop(name) for name in head.input_names if name in options}
        parsed = head.parse_options(options)
        parts, single = head.inputs(*inputs, **named)
        asked = head.ask(_one(parts), model, parsed)

        def finish(rows: Sequence[SampleOutputs]) -> Answer:
            answer = asked.finish(rows)
            return head.single(answer, parts[0], options) if single else [answer]

        return replace(asked, finish=finish)

    def build_vector_request(self, text: Any, **options: Any) -> HeadRequest:
        """What `embed` asks of the graph for one text; as `ask`."""
        head, outputs = self._embedding()
        parsed = head.parse_options(options, EmbedOptions)
        head.check_embed(parsed, outputs)
        parts, single = head.inputs(text)
        asked = head.build_vector_request(_one(parts), parsed, outputs)
        if single:
            return asked
        return replace(asked, finish=lambda rows: asked.finish(rows)[None])

    def warmup(self, shapes: Sequence[tuple[int, int]] = ((1, 8), (1, 32), (1, 128))) -> None:
        """Open the session and run it once at each shape (batch, sequence).

        The first run of a process pays for opening the graph; call this before serving. Many
        texts and large arrays have a session of their own (`workers` of `load`), which a shape of
        (threads, 512) opens too.

        Raises InputError for a shape that is not two whole numbers of at least 1.
        """
        self._executor.warmup(shapes)

    @property
    def tokenizer(self) -> Tokenizer:
        """The artifact's tokenizer."""
        return self._tokenizer

    @property
    def info(self) -> dict[str, Any]:
        """What was loaded and how it runs; plain Python."""
        manifest = self._artifact.manifest
        return {
            "task": self._head.task,
            "architecture": manifest.architecture,
            "source": dict(manifest.source),
            "target": dict(manifest.target),
            "labels": list(self._artifact.config.labels),
            "outputs": [one.name for one in manifest.graph.outputs],
            "max_length": self._tokenizer.max_length,
            **self._executor.info(),
            "fused": dict(manifest.graph.fused),
            "parity": dict(manifest.parity),
        }

    def close(self) -> None:
        """Close the streams, free the session; a later call is an error. Closing twice is not."""
        close_streams(self)
        self._streams.clear()
        self._executor.close()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<bertrt.Runtime {self._head.task} from {str(self._artifact.path)!r}>"

    def _watched(self, inputs: int, tell: Tell, before: int | None = None) -> WatchedModel:
        """The model, telling how many of a call's inputs are done.

        Where they are a chunk of an iterator, `before` says how many came before it.
        """
        total = inputs if before is None else None
        return WatchedModel(self._executor, inputs, lambda done: tell(done + (before or 0), total))

    def _in_chunks(
        self,
        inputs: Iterator[Any],
        progress: bool | Tell,
        answer: Callable[[list[Any], WatchedModel], Iterable[Any]],
    ) -> Iterator[Any]:
        """Answer an iterator's inputs a chunk at a time, so that only a chunk is held."""
        done = 0
        with telling(progress) as tell:
            while chunk := list(islice(inputs, _CHUNK)):
                answers = answer(chunk, self._watched(len(chunk), tell, done))
                done += len(chunk)
                tell(done, None)
                yield from answers

    def _own_stream(self) -> DynamicBatcher:
        """The stream behind `acall`, opened when it is first needed."""
        if "own" not in self._streams:
            # Atomic, so that threads that come at once get the same one.
            self._streams.setdefault("own", self.stream())
        return self._streams["own"]

    def _embedding(self) -> tuple[FeatureExtraction, list[str]]:
        """The head that makes vectors, and what the graph gives for it."""
        head = self._head
        if not isinstance(head, FeatureExtraction):
            raise InputError(
                f"embed needs an artifact for feature-extraction, and this one is for {head.task}: "
                "export the checkpoint again with --task feature-extraction"
            )
        return head, [one.name for one in self._artifact.manifest.graph.outputs]

    def _head_for(self, options: dict[str, Any]) -> Head:
        """Candidate labels ask a classification head a zero-shot question."""
        if "candidate_labels" in options and self._head.task == "text-classification":
            return HEADS["zero-shot-classification"](self._tokenizer, self._artifact.config)
        return self._head


def _each(parts: list[Any], chunk: Sequence[Any]) -> list[Any]:
    if len(parts) != len(chunk):
        raise InputError(
            f"the iterator's inputs are {shorten(chunk[0])}, which together would be one input: "
            "give each as a list of words"
        )
    return parts


def _one(parts: Sequence[Any]) -> Any:
    if len(parts) != 1:
        raise InputError(
            f"a stream answers one input at a time, and this is a list of {len(parts)}: ask for "
            "each, or call the runtime itself"
        )
    return parts[0]


def _head(task: str, own: str) -> type[Head]:
    served = {own}
    if own in ("text-classification", "zero-shot-classification"):
        served = {"text-classification", "zero-shot-classification"}
    if task not in served or task not in HEADS:
        raise InputError(
            f"this artifact serves {', '.join(sorted(served))}, not {task!r}: "
            "export the checkpoint again with --task"
        )
    return HEADS[task]
