"""`bertrt rank`: documents by their scores, best first."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt

Command = Callable[..., Any]
DOCUMENTS = ["Mary lives in London.", "the cat sat", "caf\u00e9 \u4e2d\u56fd"]


@pytest.fixture
def reranker(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertForSequenceClassification", num_labels=1)


def test_json_is_the_runtimes_ranking(reranker: Path, bertrt_command: Command) -> None:
    done = bertrt_command("rank", reranker, "--query", "who", *DOCUMENTS, "--json")
    with bertrt.load(reranker) as rt:
        expected = rt.rank("who", DOCUMENTS, return_documents=True)
    assert done.status == 0
    ranked = json.loads(done.out)
    assert [entry["text"] for entry in ranked] == [entry["text"] for entry in expected]
    for entry, other in zip(ranked, expected, strict=True):
        # Another number of threads may add in another order.
        assert entry["score"] == pytest.approx(other["score"], abs=1e-5)


def test_lines_of_standard_input(reranker: Path, bertrt_command: Command) -> None:
    lines = "\n".join(DOCUMENTS).encode()
    done = bertrt_command("rank", reranker, "--query", "who", "--top-k", "2", stdin=lines)
    assert (done.status, done.err) == (0, "")
    with bertrt.load(reranker) as rt:
        expected = rt.rank("who", DOCUMENTS, top_k=2)
    numbers = [int(line.split()[1]) for line in done.out.splitlines()]
    assert numbers == [entry["corpus_id"] for entry in expected]
    for dash in (["-", "--top-k", "2"], ["--top-k", "2", "-"], ["--top-k", "2", "--", "-"]):
        assert bertrt_command("rank", reranker, "--query", "who", *dash, stdin=lines) == done


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "message"),
    [
        (["--query", "who"], b"", 1, "there is no document"),
        (["--query", "who"], b"fine\n\xff\n", 1, "line 2: the text is not UTF-8"),
        (["--query", "who", "--top-k", "0", "doc"], b"", 2, "'0' is not a whole number"),
        (["doc"], b"", 2, "--query"),
    ],
)
def test_what_cannot_be_ranked(
    reranker: Path,
    bertrt_command: Command,
    arguments: list[str],
    stdin: bytes,
    status: int,
    message: str,
) -> None:
    done = bertrt_command("rank", reranker, *arguments, stdin=stdin)
    assert (done.status, done.out) == (status, "")
    assert message in done.err


def test_another_artifact_is_refused(
    make_artifact: Callable[..., Path], bertrt_command: Command
) -> None:
    artifact = make_artifact("BertForSequenceClassification")
    done = bertrt_command("rank", artifact, "--query", "who", "doc")
    assert done.status == 1
    assert "rank needs a model with one label" in done.err
