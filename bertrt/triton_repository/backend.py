"""The models that Triton's Python backend opens: one that answers texts, and a tokenizer."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from bertrt.artifact.manifest import Manifest
from bertrt.errors import BertrtError, InputError, without_texts
from bertrt.heads.calls import CallParser
from bertrt.heads.request import HeadRequest
from bertrt.runtime import load
from bertrt.text_tensors import answer_arrays, choose_call
from bertrt.tokenizer import Tokenizer
from bertrt.tokens import Tokens, pad
from bertrt.triton_repository.together import Arrays, answer_together

__all__ = ["TextModel", "as_columns", "describe_error", "open_model"]

# As in answers of `bertrt serve`.
_to_json = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
# The lengths to which texts are padded double from this one to the model's maximum.
_SHORTEST = 16


class TextModel(Protocol):
    """What a model in the Python backend does."""

    @property
    def task(self) -> str:
        """The task, which says what an input is."""

    def answer(self, requests: Sequence[list[Any] | BertrtError]) -> list[Arrays | BertrtError]:
        """Return the outputs or the error of each request; see `answer_together`."""

    def close(self) -> None:
        """Free what it holds."""


def open_model(folder: Path, parameters: Mapping[str, str]) -> TextModel:
    """Open the model in a folder of a repository, by the parameters of its configuration.

    Raises ArtifactError for files that cannot be used.
    """
    truncation = parameters["truncation"] == "true"
    if parameters["gives"] == "tokens":
        return _TokenModel(folder, truncation)
    threads = parameters["threads"]
    return _AnswerModel(
        folder / "artifact", truncation, threads if threads == "auto" else int(threads)
    )


def as_columns(arrays: Arrays) -> Arrays:
    """Return arrays with two axes at least: Triton has none of the batch axis alone."""
    return {
        name: np.ascontiguousarray(array[:, None] if array.ndim == 1 else array)
        for name, array in arrays.items()
    }


def describe_error(error: BertrtError) -> tuple[str, bool]:
    """Return an error's message, without a part of a text, and whether the request is at fault."""
    if isinstance(error, InputError):
        return without_texts(error), True
    return str(error), False


class _AnswerModel:
    """Answers with an artifact; requests share batches."""

    def __init__(self, folder: Path, truncation: bool, threads: int | str) -> None:
        self._runtime = load(folder, threads=threads)
        self.task = str(self._runtime.info["task"])
        self._method, self._options = choose_call(self.task, truncation)
        self._runtime.warmup()

    def answer(self, requests: Sequence[list[Any] | BertrtError]) -> list[Arrays | BertrtError]:
        return answer_together(requests, self._answer)

    def _answer(self, items: list[Any]) -> Arrays:
        call = self._runtime.embed if self._method == "embed" else self._runtime
        return answer_arrays(self.task, call(items, **self._options), _to_json)

    def close(self) -> None:
        self._runtime.close()


class _TokenModel:
    """Gives the graph's inputs; each request is padded to a length of its own."""

    def __init__(self, folder: Path, truncation: bool) -> None:
        def read(name: str) -> str:
            return (folder / name).read_text(encoding="utf-8")

        manifest = Manifest.from_json(read("bertrt.json"), str(folder / "bertrt.json"))
        self.task = manifest.task
        self._names = [spec.name for spec in manifest.graph.inputs if not spec.optional]
        self._tokenizer = Tokenizer(read("tokenizer.json"), manifest.tokenizer)
        outputs = [spec.name for spec in manifest.graph.outputs]
        calls = CallParser(manifest.task, self._tokenizer, manifest.model, outputs, manifest.facts)
        self._call = calls.parse_method(*choose_call(manifest.task, truncation))

    def answer(self, requests: Sequence[list[Any] | BertrtError]) -> list[Arrays | BertrtError]:
        return [answer_together([request], self._answer)[0] for request in requests]

    def _answer(self, items: list[Any]) -> Arrays:
        inputs, _ = self._call.read(items)
        encodings = [self._request(input).encodings[0] for input in inputs]
        tokenizer = self._tokenizer
        arrays = pad(encodings, tokenizer.pad_id, one_token_type=tokenizer.one_token_type)
        length = arrays["input_ids"].shape[1]
        missing = ((0, 0), (0, _padded_length(length, tokenizer.max_length) - length))
        fillers = {"input_ids": tokenizer.pad_id}
        return {
            name: np.pad(arrays[name], missing, constant_values=fillers.get(name, 0))
            for name in self._names
        }

    def _request(self, input: Any) -> HeadRequest:
        return self._call.request(input, _NoGraph())

    def close(self) -> None:
        """Do nothing."""


class _NoGraph:
    """The `GraphRunner` of requests that are built here and run elsewhere."""

    def run_encodings(self, encodings: Sequence[Tokens], **options: Any) -> NoReturn:
        raise NotImplementedError

    def run(self, **arrays: Any) -> NoReturn:
        raise NotImplementedError


def _padded_length(length: int, most: int) -> int:
    padded = _SHORTEST
    while padded < length:
        padded *= 2
    return max(length, min(padded, most))
