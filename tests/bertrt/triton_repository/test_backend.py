"""The models of Triton's Python backend, without Triton: opened from what was written."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertrt.artifact.directory import Artifact
from bertrt.errors import BertrtError, InputError
from bertrt.triton_repository.backend import as_columns, describe_error, open_model

TEXTS = ["the cat sat", "", "PARIS is the capital of france 🙂", "a " * 100]


class Tensor:
    """A tensor as the Python backend has it."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class TritonError(Exception):
    """An error as the Python backend has it."""

    INVALID_ARG, INTERNAL = "400", "500"

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def respond(output_tensors: Any = (), error: TritonError | None = None) -> SimpleNamespace:
    return SimpleNamespace(outputs={one.name: one.array for one in output_tensors}, error=error)


@pytest.fixture
def open_code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A factory: a model's folder and its parameters to the model that its model.py has."""
    utils = ModuleType("triton_python_backend_utils")
    utils.Tensor, utils.TritonError, utils.InferenceResponse = Tensor, TritonError, respond  # type: ignore[attr-defined]
    utils.get_input_tensor_by_name = lambda request, name: request.get(name)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, utils.__name__, utils)

    def make(folder: Path, **parameters: str) -> Any:
        spec = importlib.util.spec_from_file_location("triton_model", folder / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        values = {name: {"string_value": value} for name, value in parameters.items()}
        model.initialize({"model_config": json.dumps({"parameters": values})})
        return model

    return make


def request(*texts: str | bytes) -> dict[str, Tensor]:
    values = [[text if isinstance(text, bytes) else text.encode()] for text in texts]
    return {"text": Tensor("text", np.array(values, object))}


def test_the_code_in_a_repository(
    repository: Callable[..., Path],
    make_artifact: Callable[..., Path],
    load_artifact: Callable[..., Any],
    open_code: Callable[..., Any],
) -> None:
    folder = repository(make_artifact("BertForMaskedLM"), "python") / "model"
    model = open_code(folder, gives="answers", threads="1", truncation="true")
    texts = ["a [MASK] sat", "[MASK] and [MASK]", "nothing is masked", b"\xff"]
    responses = model.execute([request(text) for text in texts])
    model.finalize()
    expected = load_artifact("BertForMaskedLM")(texts[:2])
    for response, answer in zip(responses, expected, strict=False):
        assert response.error is None
        assert response.outputs["answer"].shape == (1, 1)
        found = json.loads(response.outputs["answer"][0, 0])
        assert str(found)[:40] == str(answer)[:40]
    assert [one.error.code for one in responses[2:]] == ["400", "400"]
    assert "[MASK]" in str(responses[2].error)
    assert "nothing is masked" not in str(responses[2].error)
    assert str(responses[3].error) == "element 0 of input text is not UTF-8"


def test_tokens_of_an_ensemble(
    repository: Callable[..., Path],
    make_artifact: Callable[..., Path],
    load_artifact: Callable[..., Any],
    open_code: Callable[..., Any],
) -> None:
    root = repository(make_artifact("BertModel"), "ensemble")
    model = open_code(root / "model_tokenizer", gives="tokens", truncation="true")
    responses = model.execute([request(TEXTS[0]), request(*TEXTS), request(TEXTS[2])])
    runtime = load_artifact("BertModel")
    for response, texts, length in zip(
        responses, ([TEXTS[0]], TEXTS, [TEXTS[2]]), (16, 64, 16), strict=True
    ):
        assert response.error is None
        arrays = runtime.tokenize(texts, truncation=True)
        assert set(response.outputs) == set(arrays)
        for name, array in arrays.items():
            found = response.outputs[name]
            assert (found.dtype, found.shape) == (np.int64, (len(texts), length))
            assert (found[:, : array.shape[1]] == array).all()
            filler = runtime.tokenizer.pad_id if name == "input_ids" else 0
            assert (found[:, array.shape[1] :] == filler).all()
    strict = open_code(root / "model_tokenizer", gives="tokens", truncation="false")
    short, long = strict.execute([request(TEXTS[0]), request(TEXTS[3])])
    assert short.error is None
    assert "the limit is 64" in str(long.error)


def test_answers_of_pairs_and_texts_together(
    make_artifact: Callable[..., Path], load_artifact: Callable[..., Any], tmp_path: Path
) -> None:
    path = make_artifact("BertForSequenceClassification")
    (tmp_path / "artifact").symlink_to(path)
    parameters = {"gives": "answers", "threads": "1", "truncation": "true"}
    model = open_model(tmp_path, parameters)
    items = [["one text"], [("a premise", "a hypothesis"), ("a premise", "")]]
    first, second = model.answer([*items])
    model.close()
    runtime = load_artifact("BertForSequenceClassification")
    expected = runtime([item for part in items for item in part], top_k=None)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    labels = [*first["label"].tolist(), *second["label"].tolist()]
    assert labels == [[one["label"] for one in answer] for answer in expected]
    scores = np.concatenate([first["score"], second["score"]])
    assert scores.dtype == np.float32
    reference = [[one["score"] for one in answer] for answer in expected]
    assert scores == pytest.approx(np.array(reference), abs=1e-6)


def test_errors_have_no_text() -> None:
    error = InputError("the text 'a secret' has 9 tokens: pass", truncation=True)
    assert describe_error(error) == ("the text … has 9 tokens: pass truncation true", True)
    assert describe_error(BertrtError("closed")) == ("closed", False)


def test_columns() -> None:
    arrays = as_columns({"a": np.zeros(3), "b": np.zeros((3, 2))})
    assert {name: array.shape for name, array in arrays.items()} == {"a": (3, 1), "b": (3, 2)}


def test_the_artifact_of_a_repository_is_whole(
    repository: Callable[..., Path], make_artifact: Callable[..., Path]
) -> None:
    path = make_artifact("BertModel")
    copy = repository(path, "python") / "model" / "1" / "artifact"
    assert Artifact.open(copy).manifest == Artifact.open(path).manifest
    assert not any(file.is_symlink() for file in copy.rglob("*"))
    assert {file.stat().st_nlink for file in copy.iterdir()} == {1}
