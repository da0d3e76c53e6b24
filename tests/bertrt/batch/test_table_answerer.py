"""A table's answers are the runtime's own for its texts, and wrong rows lose no other answer."""

import json
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.batch import TableAnswerer
from bertrt.batch.finite import is_finite
from bertrt.errors import ArtifactError, InputError
from bertrt.heads.sparse_vectors import SparseVector

pa = pytest.importorskip("pyarrow")

# A vector is rounded in another order in another batch.
ATOL = 1e-5
LONG = "the cat " * 60


@pytest.fixture(scope="module")
def embedder(make_artifact: Callable[..., Path]) -> TableAnswerer:
    return TableAnswerer(make_artifact("BertModel"), threads=1)


def table(texts: list[str | None], ids: list[Any] | None = None, **columns: Any) -> Any:
    return pa.table({"id": ids or list(range(len(texts))), "text": texts, **columns})


def test_vectors(embedder: TableAnswerer, load_artifact: Callable[..., Any], texts: Any) -> None:
    expected = load_artifact("BertModel").embed(texts)
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    ids = [f"row {number}" for number in range(len(texts))]
    answers = embedder(table(texts, ids, more=[1.0] * len(texts)))
    assert answers.column_names == ["id", "embedding", "truncated", "error"]
    assert answers["id"].to_pylist() == ids
    assert answers.schema.field("embedding").type == pa.list_(pa.float32(), 32)
    vectors = np.array(answers["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(vectors, expected, atol=ATOL)
    assert answers["truncated"].to_pylist() == [False] * len(texts)
    assert answers["error"].null_count == len(texts)


def test_metadata(embedder: TableAnswerer, make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertModel")
    manifest = json.loads((path / "bertrt.json").read_text())
    weights = max(manifest["files"], key=lambda file: file["size"])
    assert embedder(table(["a"])).schema.metadata == {
        b"bertrt.version": bertrt.__version__.encode(),
        b"bertrt.weights_sha256": weights["sha256"].encode(),
        b"bertrt.task": b"feature-extraction",
        b"bertrt.pooling": b"mean",
        b"bertrt.normalize": b"true",
        b"bertrt.dimensions": b"32",
    }
    changed = TableAnswerer(
        path, task="embed", options={"pooling": ["cls", "max"], "normalize": False, "dimensions": 5}
    )
    metadata = changed(table(["a"])).schema.metadata
    assert metadata[b"bertrt.pooling"] == b"cls,max"
    assert metadata[b"bertrt.normalize"] == b"false"
    assert metadata[b"bertrt.dimensions"] == b"5"


def test_wrong_rows_lose_no_other(
    embedder: TableAnswerer, load_artifact: Callable[..., Any]
) -> None:
    good = ["the cat sat", "paris", "a dog"]
    expected = load_artifact("BertModel").embed(good)
    answers = embedder(table([good[0], None, LONG, good[1], LONG, None, good[2]])).to_pylist()
    np.testing.assert_allclose([answers[i]["embedding"] for i in (0, 3, 6)], expected, atol=ATOL)
    for row in (1, 5):
        assert answers[row] == {"id": row, "embedding": None, "truncated": None, "error": None}
    for row in (2, 4):
        assert answers[row] == {
            "id": row,
            "embedding": None,
            "truncated": None,
            "error": "the text has 122 tokens and the limit is 64: shorten it, or let truncation "
            "cut it",
        }


def test_truncation(make_artifact: Callable[..., Path], load_artifact: Callable[..., Any]) -> None:
    answerer = TableAnswerer(make_artifact("BertModel"), options={"truncation": True})
    answers = answerer(table(["a", LONG, None])).to_pylist()
    assert [row["truncated"] for row in answers] == [False, True, None]
    assert [row["error"] for row in answers] == [None] * 3
    expected = load_artifact("BertModel").embed(["a", LONG], truncation=True)
    np.testing.assert_allclose([row["embedding"] for row in answers[:2]], expected, atol=ATOL)


def test_a_text_that_is_not_utf_8(embedder: TableAnswerer) -> None:
    column = pa.array([b"the cat", b"\xff\xfe", b"a dog"]).view(pa.string())
    answers = embedder(pa.table({"id": [1, 2, 3], "text": column})).to_pylist()
    assert [row["embedding"] is None for row in answers] == [False, True, False]
    assert answers[1]["error"] == "the text is not UTF-8 (invalid start byte at byte 0)"


class Overflowing:
    """A runtime whose arithmetic overflows on every second text."""

    def __init__(self, runtime: Any) -> None:
        self.info = runtime.info
        self._runtime = runtime

    def answer_each(self, method: str, inputs: Any, **options: Any) -> Any:
        outcomes = self._runtime.answer_each(method, inputs, **options)
        return [
            replace(outcome, answer=spoil(outcome.answer)) if row % 2 else outcome
            for row, outcome in enumerate(outcomes)
        ]


def spoil(answer: Any) -> Any:
    """Return an answer with its last number in place of NaN or infinity."""
    if isinstance(answer, SparseVector):
        return SparseVector(answer.ids, spoil(answer.weights))
    if isinstance(answer, np.ndarray):
        spoiled = answer.copy()
        spoiled.reshape(-1)[-1:] = np.inf
        return spoiled
    if isinstance(answer, dict):
        return {
            name: float("nan") if isinstance(value, float) else value
            for name, value in answer.items()
        }
    return [*answer[:-1], spoil(answer[-1])]


@pytest.mark.parametrize(
    "architecture",
    ["BertModel", "BertForSequenceClassification", "BertForTokenClassification"],
)
def test_an_answer_that_is_not_finite(
    make_artifact: Callable[..., Path], architecture: str
) -> None:
    """It is no JSON, and equal to nothing: the row has an error in its place."""
    options = {"ignore_labels": []} if "Token" in architecture else None
    answerer = TableAnswerer(make_artifact(architecture), options=options, threads=1)
    texts: list[str | None] = ["the cat sat", "paris", None, "a dog", "a cat"]
    good = answerer(table(texts)).to_pylist()
    assert [row["error"] for row in good] == [None] * 5
    answerer._runtime = Overflowing(answerer._runtime)
    answers = answerer(table(texts)).to_pylist()
    assert [answers[n] for n in (0, 2, 3)] == [good[n] for n in (0, 2, 3)]
    for row in (1, 4):
        error = answers[row].pop("error")
        assert error.startswith("the answer has numbers that are not finite: check")
        assert answers[row].pop("id") == row
        assert set(answers[row].values()) == {None}


@pytest.mark.parametrize(
    ("answer", "finite"),
    [
        (np.ones(3, np.float32), True),
        (np.array([1, np.nan], np.float32), False),
        (np.array([1, 255], np.uint8), True),
        ([np.ones(2), np.array([np.inf, 1])], False),
        (SparseVector(np.array([1]), np.array([np.nan], np.float32)), False),
        (SparseVector(np.array([], np.int32), np.array([], np.float32)), True),
        ([{"score": 0.5, "word": "nan"}, {"score": 1e300, "start": None}], True),
        ([{"answers": [{"score": float("nan")}]}], False),
        ("text", True),
        (None, True),
    ],
)
def test_is_finite(answer: Any, finite: bool) -> None:
    assert is_finite(answer) is finite


def test_fail(make_artifact: Callable[..., Path]) -> None:
    answerer = TableAnswerer(make_artifact("BertModel"), on_error="fail")
    assert answerer(table(["a", None])).num_rows == 2
    with pytest.raises(
        InputError, match=r"^the row with id 'b': the text has 122 tokens"
    ) as raised:
        answerer(table(["a", LONG], ["a", "b"]))
    assert "the cat" not in str(raised.value)
    with pytest.raises(InputError, match=r"^the row with id 'iii") as raised:
        answerer(table([LONG], ["i" * 5000]))
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("rows", [0, 1, 1024, 1025])
def test_sizes(embedder: TableAnswerer, rows: int) -> None:
    answers = embedder(table([f"the cat {n % 7}" for n in range(rows)]).cast(_SCHEMA))
    assert answers.num_rows == rows
    assert answers["id"].to_pylist() == list(range(rows))
    assert answers["embedding"].null_count == 0


_SCHEMA = pa.schema({"id": pa.int64(), "text": pa.string()})


@pytest.mark.parametrize(
    "type", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_types_of_texts(embedder: TableAnswerer, type: Any) -> None:
    texts = pa.array(["the cat", "a dog", None, "the cat"], type)
    answers = embedder(pa.table({"id": range(4), "text": texts}))["embedding"].to_pylist()
    assert (
        answers == embedder(table(["the cat", "a dog", None, "the cat"]))["embedding"].to_pylist()
    )
    assert answers[0] != answers[1]


def test_a_column_of_nulls_and_slices(embedder: TableAnswerer) -> None:
    nulls = pa.table({"id": [1, 2], "text": pa.nulls(2)})
    assert embedder(nulls)["embedding"].null_count == 2
    whole = table(["the cat", "a dog", "paris"])
    sliced = embedder(whole.slice(1, 2))
    assert sliced["id"].to_pylist() == [1, 2]
    np.testing.assert_allclose(
        sliced["embedding"].to_pylist(), embedder(whole)["embedding"].to_pylist()[1:], atol=ATOL
    )


def test_prompts_of_a_kind(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "prompted"
    shutil.copytree(make_artifact("BertModel"), path)
    manifest = json.loads((path / "bertrt.json").read_text())
    manifest["embedding"]["prompts"] = {"query": "who is ", "document": "text: "}
    (path / "bertrt.json").write_text(json.dumps(manifest))
    with bertrt.load(path) as rt:
        expected = {"query": rt.embed_query(["paris"]), "document": rt.embed_document(["paris"])}
    assert np.abs(expected["query"] - expected["document"]).max() > 0.01
    for kind, vectors in expected.items():
        answers = TableAnswerer(path, options={"kind": kind})(table(["paris"]))
        np.testing.assert_allclose(answers["embedding"].to_pylist(), vectors, atol=ATOL)
    with pytest.raises(InputError, match="kind is 'other': use query or document"):
        TableAnswerer(path, options={"kind": "other"})


def test_quantized_vectors(make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertModel")
    answers = TableAnswerer(path, options={"precision": "ubinary"})(table(["paris", None, "a dog"]))
    assert answers.schema.field("embedding").type == pa.list_(pa.uint8(), 4)
    with bertrt.load(path) as rt:
        expected = rt.embed(["paris", "a dog"], precision="ubinary").tolist()
    assert answers["embedding"].to_pylist() == [expected[0], None, expected[1]]
    with pytest.raises(InputError, match="ranges"):
        TableAnswerer(path, options={"precision": "int8"})


def test_labels(make_artifact: Callable[..., Path], load_artifact: Callable[..., Any]) -> None:
    path = make_artifact("BertForSequenceClassification")
    good = ["the cat sat", "paris is the capital of france", "no"]
    answers = TableAnswerer(path, threads=1)(table([*good, None, LONG]))
    assert answers.column_names == ["id", "label", "score", "scores", "truncated", "error"]
    labels = json.loads(answers.schema.metadata[b"bertrt.labels"])
    assert labels == ["contradiction", "neutral", "entailment"]
    rows = answers.to_pylist()
    for row, expected in zip(
        rows, load_artifact("BertForSequenceClassification")(good, top_k=None), strict=False
    ):
        assert row["label"] == expected[0]["label"]
        assert row["score"] == max(row["scores"])
        scores = {one["label"]: one["score"] for one in expected}
        np.testing.assert_allclose(row["scores"], [scores[label] for label in labels], atol=ATOL)
    assert rows[3]["label"] is rows[3]["scores"] is rows[4]["score"] is rows[3]["error"] is None
    assert "122 tokens" in rows[4]["error"]
    with pytest.raises(InputError, match="top_k is not for tables"):
        TableAnswerer(path, options={"top_k": 1})


def test_zero_shot(make_artifact: Callable[..., Path], load_artifact: Callable[..., Any]) -> None:
    path = make_artifact("BertForSequenceClassification")
    options = {"candidate_labels": ["sports", "politics"]}
    answers = TableAnswerer(path, task="zero-shot-classification", options=options, threads=1)(
        table(["the film", None, ""])
    ).to_pylist()
    expected = load_artifact("BertForSequenceClassification")("the film", **options)
    answer = json.loads(answers[0]["answer"])
    assert answer["labels"] == expected["labels"]
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=ATOL)
    assert answers[1]["error"] is None
    assert "text is empty" in answers[2]["error"]


def test_sparse_vectors(
    make_artifact: Callable[..., Path], load_artifact: Callable[..., Any]
) -> None:
    path = make_artifact("BertForMaskedLM", task="sparse-embedding")
    good = ["the cat sat", "paris"]
    answers = TableAnswerer(path, task="embed", threads=1)(table([good[0], None, good[1]]))
    assert answers.schema.field("ids").type == pa.list_(pa.int32())
    expected = load_artifact("BertForMaskedLM", task="sparse-embedding").embed_sparse(good)
    rows = answers.to_pylist()
    for row, vector in zip((rows[0], rows[2]), expected, strict=True):
        assert row["ids"] == vector.ids.tolist()
        np.testing.assert_allclose(row["weights"], vector.weights, atol=ATOL)
    assert rows[1]["ids"] is rows[1]["weights"] is None


def test_token_vectors(colbert_artifact: Path) -> None:
    good = ["the cat sat", "paris is a city"]
    answers = TableAnswerer(colbert_artifact, options={"kind": "query"})(
        table([good[0], None, good[1]])
    )["embeddings"].to_pylist()
    with bertrt.load(colbert_artifact) as rt:
        expected = rt.embed_tokens(good, kind="query")
    for answer, vectors in zip((answers[0], answers[2]), expected, strict=True):
        np.testing.assert_allclose(answer, vectors, atol=ATOL)
    assert answers[1] is None
    with pytest.raises(InputError, match="give kind, query or document"):
        TableAnswerer(colbert_artifact)


def test_other_tasks_answer_in_json(
    make_artifact: Callable[..., Path], load_artifact: Callable[..., Any]
) -> None:
    path = make_artifact("BertForTokenClassification")
    good = ["John Smith works at Google in New York.", "mary"]
    answers = TableAnswerer(path, options={"aggregation_strategy": "simple"}, threads=1)(
        table([good[0], None, good[1]])
    )["answer"].to_pylist()
    expected = load_artifact("BertForTokenClassification")(good, aggregation_strategy="simple")
    for answer, entities in zip((answers[0], answers[2]), expected, strict=True):
        words = [entity["word"] for entity in json.loads(answer)]
        assert words == [entity["word"] for entity in entities]
    assert answers[1] is None


def test_an_error_has_no_part_of_the_text(make_artifact: Callable[..., Path]) -> None:
    answerer = TableAnswerer(make_artifact("BertForMaskedLM"))
    rows = answerer(table(["paris is [MASK]", "my secret"])).to_pylist()
    assert json.loads(rows[0]["answer"])[0]["token_str"]
    assert rows[1]["error"].startswith("the text has no")
    assert "secret" not in rows[1]["error"]


@pytest.mark.parametrize(
    ("class_name", "task", "message"),
    [
        ("BertForQuestionAnswering", None, "needs more than a text"),
        ("BertForMultipleChoice", None, "needs more than a text"),
        ("BertForSequenceClassification", "embed", "gives no vectors: leave the task out"),
        ("BertForSequenceClassification", "fill-mask", "this artifact serves"),
    ],
)
def test_refused_tasks(
    make_artifact: Callable[..., Path], class_name: str, task: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TableAnswerer(make_artifact(class_name), task=task)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "skip"}, "on_error is 'skip': use column or fail"),
        ({"id_column": "error"}, "the id column is 'error', which answers have too"),
        ({"options": {"pooling": "best"}}, "pooling is 'best'"),
        ({"options": {"nothing": 1}}, "has no option 'nothing'"),
        ({"threads": 0}, "threads"),
    ],
)
def test_refused_arguments(
    make_artifact: Callable[..., Path], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TableAnswerer(make_artifact("BertModel"), **arguments)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1], "body": ["a"]}, "the table has no column 'text': it has 'id', 'body'"),
        ({"text": ["a"]}, "the table has no column 'id': it has 'text'"),
        ({"id": [1], "text": [1]}, "the column 'text' has int64: give a column of strings"),
    ],
)
def test_refused_tables(embedder: TableAnswerer, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder(pa.table(columns))


@pytest.mark.parametrize("name", ["id", "text"])
def test_a_column_twice(embedder: TableAnswerer, name: str) -> None:
    twice = table(["a"], ["a"]).append_column(name, pa.array(["b"]))
    with pytest.raises(InputError, match=f"the table has several columns '{name}': rename"):
        embedder(twice)


def test_pickles(embedder: TableAnswerer) -> None:
    before = embedder(table(["paris"])).to_pylist()
    packed = pickle.dumps(embedder)
    assert len(packed) < 1000  # neither the weights nor the tokenizer
    copy = pickle.loads(packed)
    assert copy(table(["paris"])).to_pylist() == before
    copy.close()
    assert copy(table(["paris"])).to_pylist() == before


def test_another_artifact_in_the_place_of_the_first(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    """A process that it is sent to later would answer with another model, without a word."""
    path = tmp_path / "artifact"
    shutil.copytree(make_artifact("BertModel"), path)
    answerer = TableAnswerer(path, threads=1)
    expected = answerer(table(["a"]))
    sent = pickle.dumps(answerer)
    shutil.rmtree(path)
    shutil.copytree(make_artifact("BertForSequenceClassification"), path)
    answerer.close()
    for one in (answerer, pickle.loads(sent)):
        with pytest.raises(ArtifactError, match="has another artifact than when this job began"):
            one(table(["a"]))
    shutil.rmtree(path)
    shutil.copytree(make_artifact("BertModel"), path)
    assert pickle.loads(sent)(table(["a"])) == answerer(table(["a"])) == expected


def test_threads_open_a_copy_once(embedder: TableAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = pickle.loads(pickle.dumps(embedder))
    opened, open_artifact = [], TableAnswerer._open

    def slowly(self: TableAnswerer) -> None:
        opened.append(self)
        time.sleep(0.05)
        open_artifact(self)

    monkeypatch.setattr(TableAnswerer, "_open", slowly)
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(copy, [table(["paris"])] * 8))
        assert all(one.equals(answers[0]) for one in answers)
        copy.close()
    assert opened == [copy, copy]


def test_without_pyarrow(
    make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_artifact("BertModel")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"tables need pyarrow, .*pip install 'bertrt\[batch\]'"):
        TableAnswerer(path)
