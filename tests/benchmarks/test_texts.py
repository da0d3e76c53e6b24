"""The workload of texts: exact token counts, and contenders that take texts alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from benchmarks.contenders import registry
from benchmarks.data.exact_texts import exact_texts
from benchmarks.data.models import Model
from benchmarks.data.vocabulary import write_tokenizer
from benchmarks.harness import turns
from benchmarks.harness.config import BenchConfig
from benchmarks.workloads import selection, texts

# Answers that differ from text to text, of a contender without `run`.
TEXTS_ALONE = """
class Fake:
    def __init__(self, threads):
        pass

    def answer(self, texts):
        return np.array([[len(text), sum(map(ord, text)) % 97, 1] for text in texts])
"""
WRONG = TEXTS_ALONE.replace("[len(text), sum(map(ord, text)) % 97, 1]", "[1, 0, 0]")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model" / "embeddings"
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    (folder / "model.safetensors").write_bytes(bytes(100))
    return folder


@pytest.mark.parametrize(("count", "tokens"), [(1, 4), (1, 8), (33, 7), (3, 128)])
def test_texts_have_exactly_so_many_tokens(checkpoint: Path, count: int, tokens: int) -> None:
    found = exact_texts(checkpoint, count, tokens)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    assert [len(encoding.ids) for encoding in tokenizer.encode_batch(found)] == [tokens] * count
    assert not any("[UNK]" in encoding.tokens for encoding in tokenizer.encode_batch(found))
    assert len(set(found)) == count
    assert found == exact_texts(checkpoint, count, tokens)
    assert found != exact_texts(checkpoint, count, tokens, seed=1)


def test_a_tokenizer_that_splits_the_words_is_refused(tmp_path: Path) -> None:
    letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    Tokenizer(models.BPE(letters, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="keeps only 0 of the benchmark's words whole"):
        exact_texts(tmp_path, 1, 8)


def test_a_tokenizer_without_special_tokens_is_refused(checkpoint: Path) -> None:
    path = checkpoint / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    vocabulary = tokenizer.get_vocab()
    Tokenizer(models.WordLevel(vocabulary, "[UNK]")).save(str(path))
    with pytest.raises(ValueError, match=r"makes \[1\] tokens of texts that should have 8"):
        exact_texts(checkpoint, 1, 8)


def test_texts_that_are_too_short_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="texts of 3 tokens are too alike"):
        exact_texts(checkpoint, 1, 3)


def test_contenders_without_run_are_in_no_workload_of_ids() -> None:
    assert not set(registry.TEXTS) & set(registry.names_on("cpu"))
    having = {
        step.workload for step in selection.full() if set(step.contenders) & {*registry.TEXTS}
    }
    assert having == {"mixed", "texts"}
    for step in selection.full():
        if step.workload in having:
            assert set(registry.TEXTS) <= set(step.contenders)
    for device in registry.DEVICES:
        for step in selection.quick(device):
            assert not set(step.contenders) & set(registry.TEXTS)


def test_contenders_of_texts_are_timed_at_every_shape(
    fake: Callable[..., str],
    config: BenchConfig,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(texts, "SHAPES", ((1, 8), (5, 9)))
    monkeypatch.setattr(turns, "_PAUSE", 0.0)
    model = Model("fake", str(checkpoint.parent), "random", 2, 3, 4, 0, 1500)
    names = [fake("eager", TEXTS_ALONE), fake("peer", TEXTS_ALONE), fake("wrong", WRONG)]
    rows = list(texts.measure(config, model, "embeddings", names))
    assert [(row["shape"], row["contender"], row["status"]) for row in rows] == [
        (shape, name, "refused" if name == "wrong" else "timed")
        for shape in ("1x8", "5x9")
        for name in names
    ]
    assert "wrong answer to texts of 1x8" in rows[2]["reason"]
    assert rows[1]["n"] == config.rounds
    assert rows[1]["speedup"]["eager"]
