"""`bertrt embed`: the runtime's vectors on standard output or in a file, or an error alone."""

import contextlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt import Runtime

Command = Callable[..., Any]
BERTRT = [sys.executable, "-P", "-m", "bertrt"]
# 700 lines are three groups.
TEXTS = ["the cat sat", "", "caf\u00e9 \u4e2d\u56fd", 'he said "hello"', "a\u2028b"] * 140
LINES = "\n".join(TEXTS).encode()
LONG = b"the cat " * 60
# A vector is rounded in another order in another batch.
ATOL = 1e-5
ENDINGS = [".npy", ".jsonl", ".parquet"]


@pytest.fixture
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertModel")


@pytest.fixture
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertModel")


@pytest.fixture
def splade(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertForMaskedLM", task="sparse-embedding")


def test_sparse_vectors(splade: Path, bertrt_command: Command, tmp_path: Path) -> None:
    command = bertrt_command
    texts = ["the cat sat", "", "paris"]
    with bertrt.load(splade) as rt:
        expected = rt.embed_sparse(texts, kind="query")
    lines = command("embed", splade, "--query", *texts).out.splitlines()
    written = tmp_path / "out.jsonl"
    assert command("embed", splade, "--json", "--output", written, *texts).status == 0
    rows = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    assert [list(row) for row in rows] == [["text", "ids", "weights"]] * 3
    for row, line, vector in zip(rows, lines, expected, strict=True):
        for one in (row, json.loads(line)):
            assert one["ids"] == vector.ids.tolist()
            np.testing.assert_allclose(one["weights"], vector.weights, atol=ATOL)
    for arguments, message in (
        (["--pooling", "mean"], "--pooling is for artifacts of feature-extraction"),
        (["--output", tmp_path / "out.npy"], "cannot hold sparse vectors: give a .jsonl file"),
    ):
        answer = command("embed", splade, *arguments, "a")
        assert (answer.status, answer.out) == (1, "")
        assert message in answer.err
    assert not (tmp_path / "out.npy").exists()


def read(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Return the texts and vectors of a file."""
    if path.suffix == ".npy":
        return None, np.load(path)
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(path).to_pylist()
    assert all(list(row) == ["text", "vector"] for row in rows)
    return [row["text"] for row in rows], np.array([row["vector"] for row in rows])


def test_a_list_on_each_line(artifact: Path, bertrt_command: Command, rt: Any) -> None:
    done = bertrt_command("embed", artifact, *TEXTS[:4])
    assert (done.status, done.err) == (0, "")
    vectors = [json.loads(line) for line in done.out.splitlines()]
    np.testing.assert_allclose(vectors, rt.embed(TEXTS[:4]), atol=ATOL)
    # The fewest digits that give each float32 back.
    numbers = done.out.splitlines()[0].strip("[]").split(", ")
    assert numbers == [str(np.float32(number)) for number in numbers]
    lines = "\r\n".join(TEXTS[:4]).encode()
    assert bertrt_command("embed", artifact, stdin=lines) == done
    assert bertrt_command("embed", artifact, "-", stdin=lines) == done


def test_json_has_the_texts(artifact: Path, bertrt_command: Command, rt: Any) -> None:
    done = bertrt_command("embed", artifact, "--json", stdin=LINES)
    assert (done.status, done.err) == (0, "")
    rows = [json.loads(line) for line in done.out.split("\n")[:-1]]
    assert [row["text"] for row in rows] == TEXTS
    vectors = np.array([row["vector"] for row in rows])
    np.testing.assert_allclose(vectors, rt.embed(TEXTS), atol=ATOL)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
def test_files(
    artifact: Path,
    bertrt_command: Command,
    rt: Any,
    tmp_path: Path,
    ending: str,
    precision: str,
) -> None:
    pytest.importorskip("pyarrow" if ending == ".parquet" else "numpy")
    output = tmp_path / "new" / f"vectors{ending}"
    flags = ["--output", output, "--precision", precision, "--dimensions", "13"]
    options: dict[str, Any] = {"precision": precision, "dimensions": 13}
    if precision == "int8":
        options["ranges"] = np.stack([np.full(13, -0.5), np.linspace(0.1, 0.6, 13)])
        np.save(tmp_path / "ranges.npy", options["ranges"])
        flags += ["--ranges", tmp_path / "ranges.npy"]
    done = bertrt_command("embed", artifact, *flags, stdin=LINES)
    expected = rt.embed(TEXTS, **options)
    shape = f"{expected.dtype} [700, {expected.shape[1]}]"
    assert done == (0, f"{output}: {shape}\n", "")
    texts, vectors = read(output)
    assert texts in (None, TEXTS)
    assert vectors.shape == expected.shape
    if precision == "float32":
        np.testing.assert_allclose(vectors, expected, atol=ATOL)
    elif precision == "int8":
        # Rounding may move a number into the step beside.
        difference = np.abs(vectors.astype(int) - expected)
        assert difference.max() <= 1
        assert difference.mean() < 0.01
    else:
        np.testing.assert_array_equal(vectors, expected)
    if ending == ".npy":
        assert vectors.dtype == expected.dtype
        np.testing.assert_array_equal(np.load(output, mmap_mode="r"), vectors)
    assert [path.name for path in output.parent.iterdir()] == [output.name]

    document = bertrt_command("embed", artifact, *flags, "--overwrite", "--json", stdin=LINES)
    assert json.loads(document.out) == {
        "output": str(output),
        "shape": list(expected.shape),
        "dtype": str(expected.dtype),
    }


def test_columns_of_a_parquet_file(
    artifact: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from bertrt.cli import vector_writers

    monkeypatch.setattr(vector_writers, "_ROW_GROUP", 300)
    for flags, kind in (
        ([], arrow.float32()),
        (["--precision", "binary"], arrow.int8()),
        (["--precision", "ubinary"], arrow.uint8()),
    ):
        output = tmp_path / f"{kind}.parquet"
        bertrt_command("embed", artifact, "--output", output, *flags, stdin=LINES)
        file = parquet.ParquetFile(output)
        assert file.schema_arrow.field("text").type == arrow.string()
        assert file.schema_arrow.field("vector").type.value_type == kind
        # Groups of 256, 256 and 188 lines.
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        assert groups == [512, 188]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("precision", "dtype", "size"), [("float32", np.float32, 32), ("binary", np.int8, 4)]
)
def test_no_lines(
    artifact: Path,
    bertrt_command: Command,
    tmp_path: Path,
    ending: str,
    precision: str,
    dtype: Any,
    size: int,
) -> None:
    pytest.importorskip("pyarrow" if ending == ".parquet" else "numpy")
    output = tmp_path / f"vectors{ending}"
    done = bertrt_command("embed", artifact, "--output", output, "--precision", precision)
    assert done == (0, f"{output}: {np.dtype(dtype)} [0, {size}]\n", "")
    texts, vectors = read(output)
    assert texts in (None, [])
    if ending == ".npy":
        assert (vectors.shape, vectors.dtype) == ((0, size), dtype)
    assert bertrt_command("embed", artifact) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "method", "options"),
    [
        ([], "embed", {}),
        (["--query"], "embed_query", {}),
        (["--document"], "embed_document", {}),
        (["--prompt", ""], "embed", {"prompt": ""}),
        (["--prompt-name", "passage"], "embed", {"prompt_name": "passage"}),
        (["--pooling", "cls"], "embed", {"pooling": ["cls"]}),
        (["--pooling", "cls,mean"], "embed", {"pooling": ["cls", "mean"]}),
        (["--normalize"], "embed", {"normalize": True}),
        (["--no-normalize"], "embed", {"normalize": False}),
        (["--dimensions", "3"], "embed", {"dimensions": 3}),
        (["--precision", "ubinary"], "embed", {"precision": "ubinary"}),
        (["--max-length", "9"], "embed", {"max_length": 9}),
        (["--truncation"], "embed", {"truncation": True}),
        (["--no-truncation", "--query"], "embed_query", {"truncation": False}),
    ],
)
def test_options_are_those_of_the_runtime(
    artifact: Path,
    bertrt_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    method: str,
    options: dict[str, Any],
) -> None:
    calls = []

    def embed(self: Runtime, texts: Any, *, progress: Any, **options: Any) -> Any:
        calls.append(options)
        return np.zeros((len(list(texts)), 2))

    monkeypatch.setattr(Runtime, method, embed)
    done = bertrt_command("embed", artifact, *flags, "a text")
    assert done == (0, "[0.0, 0.0]\n", "")
    assert calls == [options] * 2  # the first call only checks the options


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--pooling", "sum"], 1, "error: --pooling is 'sum': use one of mean, cls,"),
        (["--dimensions", "33"], 1, "error: --dimensions is 33, but this model has 32: lower it"),
        (
            ["--prompt-name", "the prompt"],
            1,
            "error: --prompt-name is 'the prompt', and this model's prompts are query, document: ",
        ),
        (["--prompt-name", "q"], 1, "use one of them, or give --prompt\n"),
        (["--max-length", "65"], 1, "error: --max-length is 65, and this model reads at most 64"),
        (["--truncation", "--max-length", "2"], 1, "error: --max-length is 2, which leaves no"),
        (["--prompt", "the " * 70], 1, "shorten it, or pass --truncation\n"),
        (["--precision", "int8"], 1, "error: --precision int8 needs --ranges FILE: an .npy file"),
        (["--ranges", "ranges.npy"], 1, "error: --ranges is for --precision int8 and uint8"),
        (["--precision", "int8", "--ranges", "ranges.npy"], 1, "--ranges has the shape [2, 31]: "),
        (["--precision", "uint8", "--ranges", "none"], 1, "No such file or directory: 'none'"),
        (["--precision", "uint8", "--ranges", "text"], 1, "--ranges 'text' is not an .npy file"),
        (["--precision", "uint8", "--ranges", "pickle.npy"], 1, "is not an .npy file of numbers"),
        (["--precision", "int4"], 2, "argument --precision: invalid choice: 'int4'"),
        (["--dimensions", "0"], 2, "argument --dimensions: '0' is not a whole number"),
        (["--prompt", "a", "--query"], 2, "argument --query: not allowed with argument --prompt"),
        (["--output", "v.csv"], 2, "'v.csv' does not end in .npy, .jsonl, .parquet"),
        (["--output", "folder.npy"], 1, "is not a file: choose another --output"),
        (["--output", "text/v.npy"], 1, "error: cannot write to "),
    ],
)
def test_what_cannot_be_done(
    artifact: Path,
    bertrt_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ranges.npy", np.zeros((2, 31)))
    np.save("pickle.npy", np.array([None, "a"]), allow_pickle=True)
    Path("text").write_text("0 1\n")
    Path("folder.npy").mkdir()
    there = sorted(tmp_path.iterdir())
    output = [] if "--output" in flags else ["--output", "vectors.npy"]
    done = bertrt_command("embed", artifact, *flags, *output, "a text")
    assert (done.status, done.out) == (status, "")
    assert message in done.err
    if status == 1:
        assert done.err.count("\n") == 1
        for name in ("prompt_name", "max_length", "truncation=", "ranges=", "give prompt"):
            assert name not in done.err
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    ("line", "flags", "message"),
    [
        (LONG, [], "has 122 tokens and the limit is 64: shorten it, or pass --truncation\n"),
        (LONG, ["--no-truncation"], "shorten it, or pass --truncation\n"),
        (b"the cat", ["--max-length", "3"], "has 4 tokens and the limit is 3: shorten it, or"),
        (b"\xff", [], "the text is not UTF-8 ("),
        # What looks like an option in a text stays as it is.
        (b"give prompt_name " * 20, [], "the text 'give prompt_name give"),
    ],
)
def test_a_wrong_line(
    artifact: Path,
    bertrt_command: Command,
    tmp_path: Path,
    line: bytes,
    flags: list[str],
    message: str,
) -> None:
    """The first one is named, also in a later group; an earlier output stays."""
    output = tmp_path / "vectors.npy"
    lines = b"a\n" * 599 + line + b"\n" + b"a\n" * 20 + LONG + b"\n"
    done = bertrt_command("embed", artifact, "--output", output, *flags, stdin=lines)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("bertrt: error: line 600: ")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

    output.write_text("earlier")
    bertrt_command("embed", artifact, "--output", output, "--overwrite", *flags, stdin=lines)
    assert output.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [output]


def test_a_wrong_text(artifact: Path, bertrt_command: Command) -> None:
    done = bertrt_command("embed", artifact, "a", "b", LONG.decode())
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("bertrt: error: text 3: the text 'the cat")
    # What it says helps.
    assert bertrt_command("embed", artifact, LONG.decode(), "--truncation").status == 0


def test_another_artifact(make_artifact: Callable[..., Path], bertrt_command: Command) -> None:
    done = bertrt_command("embed", make_artifact("BertForMaskedLM"), "a")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "bertrt: error: embed needs an artifact for feature-extraction, but this one is for "
        "fill-mask: export the checkpoint again with --task feature-extraction\n"
    )


def test_without_pyarrow(
    artifact: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = bertrt_command("embed", artifact, "--output", tmp_path / "v.parquet", "a")
    assert (done.status, done.out) == (1, "")
    assert "a .parquet file needs pyarrow, which cannot be imported" in done.err
    assert "pip install 'bertrt[batch]'" in done.err
    assert list(tmp_path.iterdir()) == []


def test_overwrite(artifact: Path, bertrt_command: Command, tmp_path: Path) -> None:
    target, output = tmp_path / "disk" / "vectors.npy", tmp_path / "vectors.npy"
    target.parent.mkdir()
    target.write_text("earlier")
    output.symlink_to(target)
    refused = bertrt_command("embed", artifact, "--output", output, "a")
    assert refused.err.endswith("vectors.npy' exists: pass --overwrite to replace it\n")
    assert target.read_text() == "earlier"
    assert bertrt_command("embed", artifact, "--output", output, "--overwrite", "a").status == 0
    assert output.is_symlink()
    assert np.load(target).shape == (1, 32)
    assert len(list(target.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_interrupted(artifact: Path, tmp_path: Path, number: int, status: int) -> None:
    """No file is left, whole or half."""
    output = tmp_path / "vectors.npy"
    pipe = subprocess.PIPE
    command = [*BERTRT, "embed", str(artifact), "--output", str(output)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin is not None
    # Half of this fills the pipe only when the other half has been read.
    process.stdin.write(b"a\n" * 100_000)
    process.stdin.flush()
    assert [path.name for path in tmp_path.iterdir()] == [f".vectors.npy.partial-{process.pid}"]
    process.send_signal(number)
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == status
    assert list(tmp_path.iterdir()) == []


def test_vectors_are_printed_before_the_end_of_input(artifact: Path) -> None:
    command = [*BERTRT, "embed", str(artifact)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(2):
        process.stdin.write(b"the cat\n")
        process.stdin.flush()
        assert len(json.loads(process.stdout.readline())) == 32
    assert process.communicate(timeout=60) == (b"", None)
    assert process.returncode == 0


def test_a_counter_is_shown_unless_vectors_go_to_the_terminal(
    artifact: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertrt.cli import embed
    from bertrt.progress import ProgressCallback

    shown: list[str] = []

    @contextlib.contextmanager
    def progress_bar() -> Iterator[ProgressCallback]:
        yield lambda done, total, what: shown.append(what)

    monkeypatch.setattr(embed, "progress_bar", progress_bar)
    assert bertrt_command("embed", artifact, stdin=LINES).status == 0
    counts = [int(what.removesuffix(" lines")) for what in shown]
    assert counts == sorted(counts)
    assert {256, 512, 700} <= set(counts)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown.clear()
    monkeypatch.setattr(sys, "stdout", Terminal())
    bertrt_command("embed", artifact, "a")
    assert shown == []
    bertrt_command("embed", artifact, "a", "--output", tmp_path / "v.npy")
    assert shown[-1] == "1 texts"


def test_choices_are_those_of_the_runtime_and_the_writers() -> None:
    from bertrt.cli import embed, embed_options
    from bertrt.cli.vector_writers import WRITERS
    from bertrt.heads.quantize_embeddings import PRECISIONS

    assert list(embed_options.PRECISIONS) == list(PRECISIONS)
    assert list(embed.ENDINGS) == list(WRITERS)
    assert bertrt.Runtime.embed.__kwdefaults__.keys() == {*embed_options._NAMES, "progress"}
