"""feature-extraction, compared with transformers' hidden states and with pooling by PyTorch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.artifact.directory import sha256_of
from bertrt.errors import InputError
from bertrt.scheduling.batch_runner import BatchRunner

Agree = Callable[[Any, Any], None]
LONG = "the cat sat on the mat " * 30


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertModel")


@pytest.fixture(scope="module")
def pipe(pipeline_of: Callable[..., Any]) -> Any:
    return pipeline_of("feature-extraction", "BertModel")


@pytest.fixture(scope="module")
def reference(pipe: Any) -> Callable[..., np.ndarray]:
    """Pool the outputs of transformers' model with PyTorch."""
    import torch

    def embed(
        text: str,
        pooling: str = "mean",
        *,
        normalize: bool = True,
        dimensions: int | None = None,
        **truncation: Any,
    ) -> Any:
        with torch.no_grad():
            outputs = pipe.model(**pipe.tokenizer(text, return_tensors="pt", **truncation))
        hidden = outputs.last_hidden_state[0]
        vector = {
            "mean": hidden.mean(dim=0),
            "max": hidden.max(dim=0).values,
            "cls": hidden[0],
            "pooler": outputs.pooler_output[0],
        }[pooling][:dimensions]
        return (torch.nn.functional.normalize(vector, dim=0) if normalize else vector).numpy()

    return embed


def compare(ours: Any, expected: Any) -> None:
    assert [type(value) for value in (ours, ours[0], ours[0][0], ours[0][0][0])] == [
        list,
        list,
        list,
        float,
    ]
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_every_text(rt: Any, pipe: Any, texts: list[str]) -> None:
    expected = pipe(texts, truncation=True)
    together = rt(texts, truncation=True)
    assert len(together) == len(texts)
    for text, answer, reference in zip(texts, together, expected, strict=True):
        compare(answer, reference)
        compare(rt(text, truncation=True), reference)
    json.dumps(together)


def test_truncation_as_options_or_in_tokenize_kwargs(rt: Any, pipe: Any) -> None:
    truncation = {"truncation": True, "max_length": 9}
    expected = pipe(LONG, tokenize_kwargs=dict(truncation))
    compare(rt(LONG, tokenize_kwargs=truncation), expected)
    compare(rt(LONG, **truncation), expected)


def test_a_pair(rt: Any, pipe: Any) -> None:
    import torch

    with torch.no_grad():
        outputs = pipe.model(**pipe.tokenizer("the cat", "a dog sat", return_tensors="pt"))
    expected = outputs.last_hidden_state.numpy()
    compare(rt("the cat", "a dog sat"), expected)
    compare(rt([("the cat", "a dog sat")])[0], expected)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "pooler"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dimensions", [None, 1, 7, 32])
def test_embed(
    rt: Any, reference: Callable[..., np.ndarray], pooling: str, normalize: bool, dimensions: Any
) -> None:
    options = {"pooling": pooling, "normalize": normalize, "dimensions": dimensions}
    texts = ["the cat sat", "", "who is the president of the united states"]
    vectors = rt.embed(texts, **options)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, dimensions or 32)
    expected = [reference(text, **options) for text in texts]
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "any"])
def test_vectors_from_the_graph_equal_those_from_numpy(
    load_artifact: Callable[..., Any], texts: list[str], device: str
) -> None:
    rt = load_artifact("BertModel", device=device)
    assert rt.info["outputs"] == ["last_hidden_state", "pooler_output", "sentence_embedding"]
    ours = rt.embed(texts, truncation=True)
    pooled = rt.embed(texts, truncation=True, normalize=False)
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, unit, rtol=0, atol=1e-5)


def test_only_what_is_needed_is_fetched(rt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    original = BatchRunner.run

    def run(self: Any, *, outputs: Any = None, **arrays: Any) -> Any:
        fetched.append((list(outputs), bool(arrays.get("first_token_only", False))))
        return original(self, outputs=outputs, **arrays)

    monkeypatch.setattr(BatchRunner, "run", run)
    for pooling in ("mean", "cls", "pooler", "max"):
        rt.embed("the cat", pooling=pooling)
        rt.embed("the cat", pooling=pooling, normalize=False)
    assert fetched == [
        (["sentence_embedding"], False),
        (["last_hidden_state"], False),
        (["last_hidden_state"], True),
        (["last_hidden_state"], True),
        (["pooler_output"], True),
        (["pooler_output"], True),
        (["last_hidden_state"], False),
        (["last_hidden_state"], False),
    ]


def test_padding_does_not_change_vectors(rt: Any, texts: list[str]) -> None:
    for pooling in ("mean", "cls", "max", "pooler"):
        together = rt.embed(texts, pooling=pooling, truncation=True)
        for text, vector in zip(texts, together, strict=True):
            alone = rt.embed(text, pooling=pooling, truncation=True)
            assert alone.shape == (32,)
            np.testing.assert_allclose(alone, vector, atol=1e-5)


def test_embed_with_truncation(rt: Any, reference: Callable[..., np.ndarray]) -> None:
    truncation = {"truncation": True, "max_length": 9}
    expected = reference(LONG, **truncation)
    np.testing.assert_allclose(rt.embed(LONG, **truncation), expected, atol=1e-4)


def test_embed_of_an_iterator_is_an_iterator(rt: Any) -> None:
    texts = ["the cat", "a dog sat on the mat", "the cat"]
    vectors = list(rt.embed(iter(texts)))
    np.testing.assert_allclose(np.stack(vectors), rt.embed(texts), atol=1e-6)
    assert list(rt.embed(iter([]))) == []


def test_a_checkpoint_without_a_pooler(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    """The artifact of a BertModel with add_pooling_layer=False, which lacks an output."""
    import onnx

    source = make_artifact("BertModel", device="any")
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    graph = onnx.load(tmp_path / "model.onnx")
    del graph.graph.output[1]
    onnx.save(graph, tmp_path / "model.onnx")
    manifest = json.loads((tmp_path / "bertrt.json").read_text())
    del manifest["graph"]["outputs"][1]
    entry = next(file for file in manifest["files"] if file["name"] == "model.onnx")
    entry["size"] = (tmp_path / "model.onnx").stat().st_size
    entry["sha256"] = sha256_of(tmp_path / "model.onnx")
    (tmp_path / "bertrt.json").write_text(json.dumps(manifest))
    with bertrt.load(tmp_path) as rt:
        assert rt.embed("the cat").shape == (32,)
        with pytest.raises(InputError, match="has no pooler: use mean, cls or max"):
            rt.embed("the cat", pooling="pooler")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rt: rt(LONG), "limit is 64: shorten it, or pass truncation=True"),
        (lambda rt: rt([]), "list of texts is empty"),
        (lambda rt: rt("a", tokenize_kwargs={"padding": True}), "tokenize_kwargs is {'padding'"),
        (lambda rt: rt("a", tokenize_kwargs=5), "tokenize_kwargs is 5"),
        (lambda rt: rt("a", pooling="mean"), "no option 'pooling'"),
        (lambda rt: rt.embed(LONG), "limit is 64"),
        (lambda rt: rt.embed([]), "list of texts is empty"),
        (lambda rt: rt.embed(None), "an input is NoneType"),
        (lambda rt: rt.embed(["a", 3]), "an input is int"),
        (lambda rt: rt.embed("a", pooling="sum"), "pooling is 'sum': use one of mean, cls, max"),
        (lambda rt: rt.embed("a", pooling=3), "pooling is 3: use one of"),
        (lambda rt: rt.embed("a", pooling=["mean", None]), "pooling is None: use one of"),
        (lambda rt: rt.embed("a", pooling=[]), "pooling is empty"),
        (lambda rt: rt.embed("a", prompt=3), "prompt is 3: give a string"),
        (lambda rt: rt.embed("a", prompt_name="q"), "prompt_name is 'q', .* are query, document"),
        (lambda rt: rt.similarity([1.0, 2.0], [[1.0]]), "the vectors have shapes"),
        (lambda rt: rt.embed("a", normalize="yes"), "normalize is 'yes': give true or false"),
        (lambda rt: rt.embed("a", dimensions=0), "dimensions is 0"),
        (lambda rt: rt.embed("a", dimensions=33), "dimensions is 33, but this model has 32"),
        (lambda rt: rt.embed("a", dimensions=1.5), r"dimensions is 1\.5"),
        (lambda rt: rt.embed("a", dimensions=True), "dimensions is True"),
        (lambda rt: rt.embed(iter(["a"]), dimensions=33), "dimensions is 33"),
    ],
)
def test_refuses(rt: Any, call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(rt)
    assert "\n" not in str(caught.value)


def test_embed_needs_this_task(load_artifact: Callable[..., Any]) -> None:
    other = load_artifact("BertForMaskedLM")
    with pytest.raises(InputError, match="for feature-extraction, but this one is for fill-mask"):
        other.embed("the cat")
