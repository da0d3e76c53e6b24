"""The runtime: an artifact's tokenizer, session and head joined, answering in the head's terms."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bertrt._version import __version__
from bertrt.artifact import Artifact
from bertrt.batching import plan
from bertrt.errors import ArtifactError, InputError
from bertrt.feeds import complete_feeds
from bertrt.heads import HEADS
from bertrt.heads.base import Answer, Head, Row, shorten
from bertrt.heads.feature_extraction import EmbedOptions, FeatureExtraction
from bertrt.session import Session
from bertrt.threads import choose_threads
from bertrt.tokenizer import Encoding, Tokenizer, pad

__all__ = ["Runtime", "load"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "any": "CPUExecutionProvider"}
# Inputs of an iterator that are answered together: enough to sort well, few enough to hold.
_CHUNK = 1024


def load(
    directory: str | Path, *, task: str | None = None, threads: int | str = "auto"
) -> "Runtime":
    """Open an artifact directory that `bertrt export` wrote. Nothing is ever downloaded.

    Args:
        directory: the artifact.
        task: another task over the same graph (zero-shot-classification over
            text-classification); the artifact's own when None.
        threads: the number of threads, or "auto" for the CPUs that this process may use.

    Raises ArtifactError for a directory that is not a sound artifact, and InputError for a task
    that its graph cannot serve.
    """
    return Runtime(Artifact.open(directory), task=task, threads=threads)


class Runtime:
    """An opened artifact. Safe to call from many threads, to pickle, and to use after a fork."""

    def __init__(
        self, artifact: Artifact, *, task: str | None = None, threads: int | str = "auto"
    ) -> None:
        """Join an opened artifact's parts; see `load`."""
        manifest = artifact.manifest
        self._artifact = artifact
        self._threads = choose_threads(threads)
        self._tokenizer = Tokenizer(
            (artifact.path / "tokenizer.json").read_text(encoding="utf-8"), manifest.tokenizer
        )
        self._head = _head(task or manifest.task, manifest.task)(self._tokenizer, artifact.config)
        device = manifest.target.get("device", "")
        if device not in _PROVIDERS:
            raise ArtifactError(
                f"the artifact is made for the device {device!r}, which bertrt {__version__} "
                f"does not run: export it again for {' or '.join(_PROVIDERS)}"
            )
        self._session = Session(
            artifact.graph_path,
            level=manifest.graph.session_level,
            threads=self._threads.count,
            provider=_PROVIDERS[device],
        )

    def __call__(self, *inputs: Any, **options: Any) -> Answer:
        """Answer one input, a list of inputs, or an iterator of them.

        A single input gives a single answer, a list gives a list in the same order, and an
        iterator gives an iterator that reads ahead by at most a thousand inputs. What an input
        is, and which options there are, is the head's: see the README.

        Raises InputError for input or options that the head cannot use; nothing is computed then.
        """
        head = self._head_for(options)
        named = {name: options.pop(name) for name in head.input_names if name in options}
        parsed = head.parse_options(options)
        if len(inputs) == 1 and isinstance(inputs[0], Iterator):
            return self._stream(head, inputs[0], named, parsed)
        parts, single = head.inputs(*inputs, **named)
        answers = head.answers(parts, self, parsed)
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
    ) -> Any:
        """One vector a text, of a feature-extraction artifact.

        Args:
            texts: a text, a list of texts, or an iterator of them; a pair as in every call.
            pooling: "mean" or "max" over the text's tokens, [CLS] and [SEP] among them; "cls" for
                the first token's; "pooler" for the checkpoint's own pooler, if it has one.
            normalize: whether to scale each vector to a Euclidean length of 1.
            dimensions: how many leading dimensions to keep, before scaling (for models trained
                for it, Matryoshka); None keeps all.
            truncation, max_length: as in every call.

        Returns float32 [H] for a text, [n, H] for a list, and an iterator of [H] for an iterator,
        where H is the hidden size, or `dimensions`.

        Raises InputError for input or options that cannot be used, and on another task's artifact.
        """
        head = self._head
        if not isinstance(head, FeatureExtraction):
            raise InputError(
                f"embed needs an artifact for feature-extraction, and this one is for {head.task}: "
                "export the checkpoint again with --task feature-extraction"
            )
        options = EmbedOptions(
            pooling=pooling,
            normalize=normalize,
            dimensions=dimensions,
            truncation=truncation,
            max_length=max_length,
        )
        outputs = [one.name for one in self._artifact.manifest.graph.outputs]
        head.check_embed(options, outputs)
        if isinstance(texts, Iterator):
            return self._stream_vectors(head, texts, options)
        parts, single = head.inputs(texts)
        vectors = head.embed(parts, self, options)
        return vectors[0] if single else vectors

    def run(self, **arrays: Any) -> dict[str, np.ndarray]:
        """Run the raw graph on arrays and return its outputs by name.

        Args:
            arrays: `input_ids`, integers [B, S] ([B, C, S] for multiple choice), and optionally
                `attention_mask` (ones), `token_type_ids` (zeros) and, for a decoder, the
                key/value cache `past_key_values.{layer}.key` and `.value` (empty), float32
                [B, N, past, D].

        Raises InputError when they do not fit the graph; padding has to be on the right.
        """
        graph = self._artifact.manifest.graph
        return self._session.run(complete_feeds(arrays, graph.inputs, self._artifact.config))

    def rows(self, encodings: Sequence[Encoding]) -> Iterator[tuple[int, Row]]:
        """Run encodings in batches of like length; yield indices and outputs without padding.

        Each batch is run when its first row is asked for.
        """
        graph = self._artifact.manifest.graph
        choices = len(graph.inputs[0].shape) == 3
        by_token = {one.name for one in graph.outputs if "sequence" in one.shape[1:2]}
        for batch in plan([len(one.ids) for one in encodings]):
            arrays = pad([encodings[i] for i in batch], self._tokenizer.pad_id)
            if choices:
                # Choices do not see each other, so each may as well be a question of its own.
                arrays = {name: array[:, None] for name, array in arrays.items()}
            outputs = self.run(**arrays)
            for row, i in enumerate(batch):
                length = len(encodings[i].ids)
                yield (
                    i,
                    {
                        name: value[row, :length] if name in by_token else value[row]
                        for name, value in outputs.items()
                    },
                )

    def warmup(self, shapes: Sequence[tuple[int, int]] = ((1, 8), (1, 32), (1, 128))) -> None:
        """Open the session and run it once at each shape (batch, sequence).

        The first run of a process pays for opening the graph; call this before serving.

        Raises InputError for a shape that is not two whole numbers of at least 1.
        """
        for shape in shapes:
            if not (isinstance(shape, (tuple, list)) and [type(n) for n in shape] == [int, int]):
                raise InputError(f"a warm-up shape is {shape!r}: give (batch, sequence)")
            batch, sequence = shape
            length = min(sequence, self._tokenizer.max_length)
            ids = np.zeros((batch, length), dtype=np.int64)
            if len(self._artifact.manifest.graph.inputs[0].shape) == 3:
                ids = ids[:, None]
            self.run(input_ids=ids)

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
            "max_length": self._tokenizer.max_length,
            "threads": self._threads.count,
            "threads_reason": self._threads.reason,
            "provider": _PROVIDERS[manifest.target["device"]],
            "fused": dict(manifest.graph.fused),
            "parity": dict(manifest.parity),
        }

    def close(self) -> None:
        """Free the session; a later call is an error. Closing twice is not."""
        self._session.close()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<bertrt.Runtime {self._head.task} from {str(self._artifact.path)!r}>"

    def _stream_vectors(
        self, head: FeatureExtraction, inputs: Iterator[Any], options: EmbedOptions
    ) -> Iterator[np.ndarray]:
        while chunk := list(islice(inputs, _CHUNK)):
            parts, _ = head.inputs(chunk)
            yield from head.embed(parts, self, options)

    def _head_for(self, options: dict[str, Any]) -> Head:
        """Candidate labels ask a classification head a zero-shot question."""
        if "candidate_labels" in options and self._head.task == "text-classification":
            return HEADS["zero-shot-classification"](self._tokenizer, self._artifact.config)
        return self._head

    def _stream(
        self, head: Head, inputs: Iterator[Any], named: dict[str, Any], options: Any
    ) -> Iterator[Answer]:
        while chunk := list(islice(inputs, _CHUNK)):
            parts, _ = head.inputs(chunk, **named)
            if len(parts) != len(chunk):
                raise InputError(
                    f"the iterator's inputs are {shorten(chunk[0])}, which together would be one "
                    "input: give each as a list of words"
                )
            yield from head.answers(parts, self, options)


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
