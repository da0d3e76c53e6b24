"""`bertrt embed`, `rank` and `inspect` with a multi-vector model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt

Command = Callable[..., Any]
TEXTS = ["the cat sat!", "", 'he said "hello"', "london"]


@pytest.mark.parametrize("kind", ["query", "document"])
def test_a_list_of_vectors_on_each_line(
    colbert_artifact: Path, bertrt_command: Command, tmp_path: Path, kind: str
) -> None:
    with bertrt.load(colbert_artifact, threads=1) as rt:
        expected = rt.embed_tokens(TEXTS, kind=kind)
    done = bertrt_command("embed", colbert_artifact, f"--{kind}", *TEXTS)
    assert (done.status, done.err) == (0, "")
    for line, vectors in zip(done.out.splitlines(), expected, strict=True):
        np.testing.assert_allclose(json.loads(line), vectors, atol=1e-5)
    output = tmp_path / "vectors.jsonl"
    done = bertrt_command("embed", colbert_artifact, f"--{kind}", "--output", output, *TEXTS)
    assert done.out == f"{output}: float32 [4]\n"
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    np.testing.assert_allclose(rows[3]["vectors"], expected[3], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["a"], "a multi-vector model embeds queries and documents differently: give --query or"),
        (["--query", "--output", "x.npy", "a"], "cannot hold lists of vectors: give a .jsonl file"),
        (["--query", "--pooling", "cls", "a"], "--pooling is for artifacts of feature-extraction"),
        (["--query", "--max-length", "5", "a"], "--max-length is 5, and this model fills queries"),
    ],
)
def test_errors(
    colbert_artifact: Path,
    bertrt_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = bertrt_command("embed", colbert_artifact, *arguments)
    assert (done.status, done.out) == (1, "")
    assert problem in done.err
    assert list(tmp_path.iterdir()) == []


def test_rank_and_inspect(colbert_artifact: Path, bertrt_command: Command) -> None:
    done = bertrt_command("rank", colbert_artifact, "--query", "who", "--json", *TEXTS)
    with bertrt.load(colbert_artifact, threads=1) as rt:
        expected = rt.rank("who", TEXTS, return_documents=True)
    assert json.loads(done.out) == expected
    lines = bertrt_command("inspect", colbert_artifact).out
    assert "Dense, then Normalize, then 7 dimensions for each token, maxsim similarity" in lines
    assert "queries filled up to 13 tokens" in lines
    assert "prompt 'query': '[unused0] '" in lines
    done = bertrt_command("run", colbert_artifact, "london")
    assert "[1, 4, 7]" in done.out
