"""The runtime: an artifact's tokenizer, sessions and head, which together answer texts."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.arrays.interop import converter
from bertrt.arrays.model_output import ModelOutput
from bertrt.arrays.outputs import group_layer_outputs
from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import EncoderFacts
from bertrt.checks import check_flag, check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads import HEADS
from bertrt.heads.calls import Call, CallParser
from bertrt.heads.feature_extraction import FeatureExtraction
from bertrt.heads.request import Answer
from bertrt.heads.reranking import check_ranking, rank_documents
from bertrt.heads.similarity import similarity
from bertrt.heads.sparse_embedding import SparseEmbedding
from bertrt.heads.sparse_vectors import SparseVector, is_sparse, sparse_similarity
from bertrt.progress import ProgressCallback, ProgressRunner, check_progress, report_inputs
from bertrt.scheduling.batch_runner import BatchRunner
from bertrt.scheduling.dynamic_batcher import DynamicBatcher
from bertrt.scheduling.session_pool import SessionPool
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


class Runtime:
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

    def embed(
        self,
        texts: Any,
        *,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        truncation_side: str | None = None,
        precision: str = "float32",
        ranges: Any = None,
        progress: bool | ProgressCallback = False,
    ) -> Any:
        """Return one vector a text, from a feature-extraction artifact.

        The vector is the model's own, by the files that sentence-transformers saved beside it: its
        pooling, scaling, prompts and length limit. Without such files it is the mean over the
        text's tokens, scaled to a Euclidean length of 1. Arguments override the files.

        Args:
            texts: a text, a list of texts, or an iterator of them; a pair as in every call. A text
                that is encoded already is a `TokenIds`, to which nothing is added, also no prompt.
            pooling: "mean", "max", "mean_sqrt_len_tokens" or "weightedmean" over the text's tokens,
                including [CLS] and [SEP]; "cls" and "lasttoken" for the first and the last token's
                vector; "pooler" for the checkpoint's own pooler, if it has one. Of several the
                vectors are concatenated.
            normalize: scale each vector to a Euclidean length of 1.
            dimensions: keep so many leading dimensions, before scaling (for models trained for
                it, Matryoshka); None keeps all, or as many as the model's files say.
            prompt: what to put before each text.
            prompt_name: which of the model's prompts to put there, if `prompt` is None; None for
                its default one, if it has one.
            truncation: as in every call. None cuts a text that is too long if the model has files
                of sentence-transformers, as its users expect (`info["truncated"]` counts these
                texts), and makes it an InputError otherwise.
            max_length: the limit in tokens; None for the model's own.
            truncation_side: as in every call.
            precision: "float32"; "int8", "uint8", "binary" or "ubinary" for vectors that take a
                byte or a bit a number: see `bertrt.quantize_embeddings`.
            ranges: for int8 and uint8, the minimum and the maximum of each dimension, float
                [2, H]. None takes those of the list's own vectors; a single text and an iterator
                have none, and need this.
            progress: as in every call.

        Returns float32 [H] for a text, [n, H] for a list, and an iterator of [H] for an iterator,
        where H is the hidden size for each pooling, or `dimensions`. With a `precision` they are
        int8 or uint8, and the binary ones have ceil(H / 8) bytes.

        Raises InputError for an input or option that cannot be used, and if the artifact is for
        another task.
        """
        check_progress(progress)
        call = self._calls.parse_embed(
            {
                "pooling": pooling,
                "normalize": normalize,
                "dimensions": dimensions,
                "prompt": prompt,
                "prompt_name": prompt_name,
                "truncation": truncation,
                "max_length": max_length,
                "truncation_side": truncation_side,
                "precision": precision,
                "ranges": ranges,
            },
            streamed=isinstance(texts, Iterator),
        )
        return self._answer(call, (texts,), progress)

    def embed_query(self, texts: Any, **options: Any) -> Any:
        """Return vectors of queries: `embed` with the model's prompt "query"."""
        return self.embed(texts, **self._prompted("query", options))

    def embed_document(self, texts: Any, **options: Any) -> Any:
        """Return vectors of documents: `embed` with the model's prompt "document".

        As in sentence-transformers 6, this is no prompt if the model has none of that name.
        """
        return self.embed(texts, **self._prompted("document", options))

    def _prompted(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            return {**options, "prompt_name": name}
        return options

    def embed_sparse(
        self,
        texts: Any,
        *,
        kind: str | None = None,
        top_k: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        truncation_side: str | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Any:
        """Return one sparse vector a text, from a sparse-embedding artifact.

        Args:
            texts: a text, a list of texts, or an iterator of them; a pair as in every call.
            kind: "query" or "document" for the prompt of that name and, where the model makes the
                vectors of queries without the graph (inference-free), for how the vector is made;
                None for the model's default.
            top_k: keep so many of the largest weights; None for as many as the model's files say.
            prompt, prompt_name, truncation, max_length: as for `embed`.
            truncation_side, progress: as in every call.

        Returns a `SparseVector` for a text, a list of them for a list, and an iterator of them for
        an iterator.

        Raises InputError for an input or option that cannot be used, and if the artifact is for
        another task.
        """
        check_progress(progress)
        options = {
            "kind": kind,
            "top_k": top_k,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "truncation": truncation,
            "max_length": max_length,
            "truncation_side": truncation_side,
        }
        return self._answer(self._calls.parse_embed_sparse(options), (texts,), progress)

    def similarity(self, a: Any, b: Any) -> np.ndarray:
        """Return the similarity of vectors by the model's own function, float32 [n, m].

        Args:
            a, b: vectors [n, H] and [m, H], or single ones [H]; or `SparseVector`s, lists of them
                or single ones.

        The function is the cosine, the dot product, or a negative Euclidean or Manhattan distance,
        as the model's files say; without any the cosine, and of sparse vectors the dot product.

        Raises InputError for arrays that are no vectors of one size.
        """
        facts = self._artifact.manifest.facts
        name = facts.similarity if isinstance(facts, EncoderFacts) else "cosine"
        return (sparse_similarity if is_sparse(a) or is_sparse(b) else similarity)(a, b, name)

    def decode_sparse(self, vector: SparseVector) -> list[tuple[str, float]]:
        """Return a sparse vector's tokens with their weights, the largest first.

        Args:
            vector: what `embed_sparse` returned.
        """
        tokens = map(self._tokenizer.id_to_token, vector.ids.tolist())
        return [(str(token), w) for token, w in zip(tokens, vector.weights.tolist(), strict=True)]

    def score(
        self,
        pairs: Any,
        *,
        activation: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str = True,
        max_length: int | None = None,
        truncation_side: str | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Any:
        """Score pairs of texts with a cross-encoder, as CrossEncoder.predict does.

        Args:
            pairs: a pair `("query", "document")`, a list of pairs, or an iterator of them.
            activation: what turns logits into scores: "identity", "relu", "sigmoid" or "tanh"; None
                for what sentence-transformers saved with the model, and without that "sigmoid" for
                one label, "identity" for several.
            prompt: what to put before each pair's first text.
            prompt_name: which of the model's prompts to put there, if `prompt` is None; None for
                its default one, if it has one.
            truncation: as in every call, but a pair that is too long is cut by default, the longer
                text first, as in CrossEncoder; False makes it an InputError.
            max_length, truncation_side, progress: as in every call.

        Returns a float for a pair, float32 [n] for a list, and an iterator of float32 for an
        iterator. A model with several labels gives float32 [labels] for each pair.

        Raises InputError for an input or option that cannot be used, and if the artifact is not for
        text-classification.
        """
        check_progress(progress)
        options = {
            "activation": activation,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "truncation": truncation,
            "max_length": max_length,
            "truncation_side": truncation_side,
        }
        return self._answer(self._calls.parse_score(options, "score"), (pairs,), progress)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        activation: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str = True,
        max_length: int | None = None,
        truncation_side: str | None = None,
        progress: bool | ProgressCallback = False,
    ) -> list[dict[str, Any]]:
        """Rank documents by their scores with a query, as CrossEncoder.rank does.

        Args:
            query: the query.
            documents: the documents; none give an empty answer.
            top_k: how many documents to return; all when None.
            return_documents: add each document as "text".
            activation, prompt, prompt_name, truncation, max_length, truncation_side, progress: as
                for `score`.

        Returns `[{"corpus_id", "score"}, …]`, best first; `corpus_id` is the document's index.

        Raises InputError as `score` does, and for a model with several labels.
        """
        check_progress(progress)
        check_ranking(query, documents, top_k, return_documents)
        options = {
            "activation": activation,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "truncation": truncation,
            "max_length": max_length,
            "truncation_side": truncation_side,
        }
        call = self._calls.parse_score(options, "rank")
        scores = self._answer(call, ([(query, document) for document in documents],), progress)
        return rank_documents(documents, scores, top_k=top_k, return_documents=return_documents)

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
        if isinstance(head, FeatureExtraction):
            vectors = {"embedding": asdict(head.embedding), "truncated": head.truncated}
        if isinstance(head, SparseEmbedding):
            vectors = {"sparse": asdict(head.sparse), "truncated": head.truncated}
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

    def _answer(
        self, call: Call, inputs: tuple[Any, ...], progress: bool | ProgressCallback
    ) -> Answer:
        """Answer a parsed call's inputs."""
        if len(inputs) == 1 and isinstance(inputs[0], Iterator):
            return self._answer_in_chunks(call, inputs[0], progress)
        items, single = call.read(*inputs)
        total = len(items)
        with report_inputs(progress) as report:
            runner = ProgressRunner(self._runner, total, lambda done: report(done, total))
            answers = call.answer(items, runner)
            report(total, total)
        return call.unwrap(answers[0], items[0]) if single else answers

    def _answer_in_chunks(
        self, call: Call, inputs: Iterator[Any], progress: bool | ProgressCallback
    ) -> Iterator[Answer]:
        """Answer an iterator's inputs, holding one chunk of them at a time."""
        before = 0
        with report_inputs(progress) as report:

            def report_chunk(done: int) -> None:
                report(before + done, None)

            while chunk := list(islice(inputs, _CHUNK)):
                items, _ = call.read(chunk)
                if len(items) != len(chunk):
                    raise InputError(
                        f"the iterator's inputs are {shorten(chunk[0])}, which together would be "
                        "one input: give each as a list of words"
                    )
                runner = ProgressRunner(self._runner, len(chunk), report_chunk)
                answers = call.answer(items, runner)
                before += len(chunk)
                report(before, None)
                yield from answers

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
