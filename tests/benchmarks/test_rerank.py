"""Reranking: every library scores the same pairs alike, and wrong scores are never timed."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from benchmarks.contenders import registry
from benchmarks.contenders.contender import use_checkpoint
from benchmarks.data.corpus import candidates
from benchmarks.data.models import Model, make_model
from benchmarks.data.vocabulary import write_tokenizer
from benchmarks.harness.config import BenchConfig
from benchmarks.reporting.tables import markdown
from benchmarks.workloads import rerank

QUERY = "who lives in london ?"
PASSAGES = [
    "mary lives in london .",
    "plants create oxygen through a process .",
    "paris",
    "the cat sat on the mat . the cat sat on the mat , and the dog sat on the cat .",
    "the mat",
]

# Scores of words, far from zero: 100 hides their differences from a cosine of all.
CORRECT = """
TASKS = ("rerank",)
def rank(self, query, passages):
    words = set(query.split())
    return np.array([100 + np.cos(len(text)) + len(words & set(text.split())) for text in passages])
Fake.rank = rank
"""
REVERSED = CORRECT.replace("for text in passages", "for text in passages[::-1]")
SHIFTED = CORRECT.replace("100", "103")
CONSTANT = CORRECT.replace("100 + np.cos(len(text)) + len(words & set(text.split()))", "100.0")
FAILS_LATER = (
    CORRECT
    + """
calls = 0
def rank_a_few(self, query, passages):
    global calls
    calls += 1
    assert calls <= 6, "too many"
    return rank(self, query, passages)
Fake.rank = rank_a_few
"""
)


@pytest.fixture(scope="module")
def reranker(
    make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """A tiny model with a new head, as the benchmark makes it."""
    source = str(make_checkpoint("BertModel"))
    return make_model(source, tmp_path_factory.mktemp("models"), ["rerank"])


@pytest.fixture(scope="module")
def expected(reranker: Model) -> np.ndarray:
    """The scores of transformers, a pair at a time."""
    folder = reranker.checkpoint("rerank")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    module = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        pairs = [tokenizer(QUERY, text, return_tensors="pt") for text in PASSAGES]
        return np.array([module(**pair).logits.item() for pair in pairs])


def test_a_new_head_tells_passages_apart(reranker: Model, expected: np.ndarray) -> None:
    config = transformers.AutoConfig.from_pretrained(reranker.checkpoint("rerank"))
    assert config.num_labels == 1
    assert "rerank" not in reranker.trained
    assert np.diff(np.sort(expected)).min() > 1e-2
    assert expected.std() > 0.5


def test_a_trained_head_is_kept(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = make_checkpoint("BertForSequenceClassification", num_labels=1)
    model = make_model(str(source), tmp_path, ["rerank"])
    assert "rerank" in model.trained
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    made = load(model.checkpoint("rerank"))
    torch.testing.assert_close(made.classifier.weight, load(source).classifier.weight)


# FastEmbed's graph is PyTorch's export, which warns.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["eager", "sentence_transformers", "fastembed_rerank", "bertrt"])
def test_every_library_gives_the_scores_of_transformers(
    name: str, reranker: Model, expected: np.ndarray, tmp_path: Path
) -> None:
    contender = registry.find(name)
    if reason := contender.missing():
        pytest.skip(reason)
    folder = tmp_path / name
    folder.mkdir()
    if contender.prepare is not use_checkpoint:
        contender.prepare(reranker, "rerank", folder)
    loaded = contender.load(reranker, "rerank", folder, 1)
    scores = np.asarray(loaded.rank(QUERY, PASSAGES))  # type: ignore[attr-defined]
    assert scores.shape == (len(PASSAGES),)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(rerank, "_PAUSE", 0.0)
    folder = tmp_path / "model"
    (folder / "rerank").mkdir(parents=True)
    (folder / "rerank" / "model.safetensors").write_bytes(bytes(100))
    write_tokenizer(folder / "rerank")
    return Model("fake", str(folder), "random", cls=2, sep=3, mask=4, pad=0, vocabulary=1500)


def test_only_correct_scores_are_timed(
    fake: Callable[..., str], config: BenchConfig, model: Model
) -> None:
    names = [
        fake("eager", CORRECT),
        fake("peer", CORRECT),
        fake("reversed", REVERSED),
        fake("shifted", SHIFTED),
        fake("constant", CONSTANT),
        fake("later", FAILS_LATER),
        fake("other"),
        fake("absent", "def missing():\n    return 'not installed'\nTASKS = ('rerank',)"),
    ]
    rows = {row["contender"]: row for row in rerank.measure(config, model, "rerank", names)}
    assert list(rows) == names
    assert {row["shape"] for row in rows.values()} == {"50 passages"}
    assert [name for name, row in rows.items() if row["status"] == "timed"] == ["eager", "peer"]
    peer = rows["peer"]
    assert 0 < peer["p20_ms"] <= peer["median_ms"] <= peer["p80_ms"]
    assert peer["n"] == 3
    assert set(peer["speedup"]) == {"eager"}
    assert peer["error"]["argmax_agreement"] == 1
    assert peer["settings"]["queries"] == 4
    assert 50 * 70 < peer["settings"]["tokens"] < 50 * 110
    what = "wrong answer to 4 queries with 50 passages: "
    for name in ("reversed", "shifted", "constant"):
        assert rows[name]["reason"].startswith(what)
        assert rows[name]["error"]["relative"] > 0.5
    assert rows["reversed"]["error"]["worst_cosine"] < 0.9
    assert rows["later"]["reason"] == "time_rank failed: AssertionError: too many"
    assert rows["other"]["reason"] == "other does not support rerank"
    assert rows["absent"]["reason"] == "not installed"


def test_tables_show_a_query_and_whether_the_best_passage_is_the_same(
    fake: Callable[..., str], config: BenchConfig, model: Model
) -> None:
    machine = {"cpu": "", "flags": [], "cores": 1, "threads": 1, "system": "", "python": ""}
    shared = {"run": "1", "commit": "", "machine": machine}
    names = [fake("eager", CORRECT), fake("wrong", REVERSED)]
    table = markdown([shared | row for row in rerank.measure(config, model, "rerank", names)])
    assert "### Reranking, a query with its passages: fake, rerank" in table
    assert "|  | 50 passages | error |" in table
    assert "±0, same 100 %" in table
    assert "- wrong at 50 passages: wrong answer" in table


def test_tokens_are_those_of_pairs_without_padding(model: Model) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.checkpoint("rerank"))
    queries = candidates(3, 7, seed=2)
    lengths = [len(tokenizer(query, text).input_ids) for query, texts in queries for text in texts]
    assert len(set(lengths)) > 10
    found = rerank.count_tokens(model, "rerank", queries)
    assert math.isclose(found, sum(lengths) / 3, abs_tol=0.5)
