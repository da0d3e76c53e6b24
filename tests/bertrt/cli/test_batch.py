"""`bertrt batch`: every row's answer is the runtime's own, in each format, or its own error."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.batch.shard_writers import FORMATS
from bertrt.cli import batch

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Command = Callable[..., Any]
# A vector is rounded in another order in another batch.
ATOL = 1e-5
LONG = "the cat " * 60
TEXTS = ["the cat sat", "", 'caf\u00e9 "\u4e2d\u56fd"', "he said\nhello", "a\u2028b, c"]


@pytest.fixture
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertModel")


@pytest.fixture
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertModel")


def write(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Path:
    """Write rows as a file of the kind that its name has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        pq.write_table(pa.table(columns), path, **options)
    elif path.suffix == ".csv":
        pa.csv.write_csv(pa.Table.from_pylist(list(rows)), path)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
    return path


def read(output: Path) -> list[dict[str, Any]]:
    """Return the rows of a complete output, in the order of its parts."""
    assert (output / "_manifest.json").exists()
    if (output / "embeddings.npy").exists():
        vectors = np.load(output / "embeddings.npy", mmap_mode="r")
        rows = pq.read_table(output / "ids.parquet").to_pylist()
        return [
            {**row, "embedding": None if row["truncated"] is None else vector}
            for row, vector in zip(rows, vectors, strict=True)
        ]
    rows = []
    for path in sorted(output.glob("part-*")):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        else:
            rows += [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return rows


def names(output: Path) -> set[str]:
    return {path.name for path in output.iterdir()}


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"id": n, "text": f"{TEXTS[n % 5]} {n % 11}"} for n in range(count)]


def test_choices_are_those_of_the_writers() -> None:
    assert batch.FORMATS == FORMATS


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_answers(
    artifact: Path, rt: Any, bertrt_command: Command, tmp_path: Path, ending: str, format: str
) -> None:
    pytest.importorskip("pyarrow.csv")
    rows = rows_of(25)
    first = write(tmp_path / "in" / f"a.{ending}", rows[:14])
    write(tmp_path / "in" / f"b.{ending}", rows[14:])
    output = tmp_path / "out"
    done = bertrt_command(
        *("batch", artifact, "--input", f"{first.parent}/*.{ending}", "--id", "id"),
        *("--output", output, "--format", format, "--shard-rows", 10, "--task", "embed"),
    )
    assert done == (0, f"{output}: 25 of 25 rows answered\n", "")
    expected = rt.embed([row["text"] for row in rows])
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    found = read(output)
    kind = str if ending == "csv" else int
    assert [row["id"] for row in found] == [kind(row["id"]) for row in rows]
    np.testing.assert_allclose([row["embedding"] for row in found], expected, atol=ATOL)
    assert {row["error"] for row in found} == {None}
    assert {row["truncated"] for row in found} == {False}
    parts = {f"part-0000{n}.{format}" for n in range(3)}
    files = {"embeddings.npy", "ids.parquet"} if format == "npy" else parts
    assert names(output) == files | {"_manifest.json", ".lock"}
    manifest = json.loads((output / "_manifest.json").read_text("utf-8"))
    assert set(manifest["files"]) == files
    assert manifest["counts"] == {"rows": 25, "answers": 25, "errors": 0, "truncated": 0}


def test_npy_is_float32_in_the_order_of_the_input(
    artifact: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    rows = [{"id": "a", "text": "the cat"}, {"id": "b", "text": LONG}, {"id": "c", "text": None}]
    source = write(tmp_path / "in.parquet", [*rows, {"id": "d", "text": "a dog"}])
    output = tmp_path / "vectors.npy"
    done = bertrt_command("batch", artifact, "--input", source, "--id", "id", "--output", output)
    assert done.out == f"{output}: 2 of 4 rows answered, 1 with an error\n"
    vectors = np.load(output / "embeddings.npy")
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 32))
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False]
    ids = pq.read_table(output / "ids.parquet")
    assert ids["id"].to_pylist() == ["a", "b", "c", "d"]
    assert ids.schema.metadata[b"bertrt.dimensions"] == b"32"


def test_json_lines_give_back_each_float(
    artifact: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", rows_of(7))
    for ending in ("jsonl", "parquet"):
        output = tmp_path / f"out.{ending}"
        assert bertrt_command("batch", artifact, "--input", source, "--output", output).status == 0
    found, expected = read(tmp_path / "out.jsonl"), read(tmp_path / "out.parquet")
    assert [list(row) for row in found] == [["row", "embedding", "truncated", "error"]] * 7
    assert [row["row"] for row in found] == list(range(7))
    for one, other in zip(found, expected, strict=True):
        assert np.float32(one["embedding"]).tolist() == other["embedding"]


@pytest.mark.parametrize(
    ("flags", "method", "options"),
    [
        (["--pooling", "cls,max"], "embed", {"pooling": ["cls", "max"]}),
        (["--no-normalize"], "embed", {"normalize": False}),
        (["--dimensions", "5"], "embed", {"dimensions": 5}),
        (["--truncation", "--max-length", "9"], "embed", {"truncation": True, "max_length": 9}),
        (["--prompt", "paris "], "embed", {"prompt": "paris "}),
        (["-o", "prompt=paris "], "embed", {"prompt": "paris "}),
        (["--document"], "embed_document", {}),
    ],
)  # fmt: skip
def test_options(
    artifact: Path,
    rt: Any,
    bertrt_command: Command,
    tmp_path: Path,
    flags: list[str],
    method: str,
    options: dict[str, Any],
) -> None:
    texts = ["the cat sat on the mat and the dog sat on the cat", "paris"]
    source = write(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    output = tmp_path / "out"
    done = bertrt_command("batch", artifact, "--input", source, "--output", output, *flags)
    assert (done.status, done.err) == (0, "")
    expected = getattr(rt, method)(texts, **options)
    if options:
        assert expected.shape != rt.embed(texts).shape or not np.allclose(expected, rt.embed(texts))
    np.testing.assert_allclose([row["embedding"] for row in read(output)], expected, atol=ATOL)


def test_labels_and_json(
    make_artifact: Callable[..., Path],
    load_artifact: Callable[..., Any],
    bertrt_command: Command,
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "paris is a city"}, {"text": None}])
    for class_name, flags in (
        ("BertForSequenceClassification", []),
        ("BertForTokenClassification", ["-o", "aggregation_strategy=simple"]),
    ):
        output = tmp_path / f"{class_name}.jsonl"
        done = bertrt_command(
            "batch", make_artifact(class_name), "--input", source, "--output", output, *flags
        )
        assert (done.status, done.err) == (0, "")
        rows = read(output)
        rt = load_artifact(class_name)
        if flags:
            answer = rt(["paris is a city"], aggregation_strategy="simple")[0]
            assert [one["word"] for one in rows[0]["answer"]] == [one["word"] for one in answer]
            assert rows[1]["answer"] is None
        else:
            assert rows[0]["label"] == rt(["paris is a city"])[0]["label"]
            assert rows[1]["label"] is rows[1]["scores"] is None


def test_json_summary_and_a_second_run(
    artifact: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete job computes nothing again."""
    source = write(tmp_path / "in.parquet", [{"id": 1, "text": LONG}, {"id": 2, "text": "a"}])
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", source, "--id", "id", "--output", output, "--json")
    first = bertrt_command(*command)
    counts = {"rows": 2, "answers": 1, "errors": 1, "truncated": 0}
    assert json.loads(first.out) == {"output": str(output), **counts}
    before = {path: path.stat().st_mtime_ns for path in output.glob("[!.]*")}
    monkeypatch.setattr("bertrt.batch.table_answerer.TableAnswerer.answer", None)
    assert bertrt_command(*command) == first
    assert {path: path.stat().st_mtime_ns for path in output.glob("[!.]*")} == before


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (["--dimensions", "5"], "options"),
        (["--format", "jsonl"], "format"),
        (["--column", "other"], "column"),
        (["--shard-rows", "7"], "number of rows in a shard"),
        (["--on-error", "fail"], "treatment of errors"),
        (["--allow-duplicate-ids"], "treatment of duplicate ids"),
        (["--id", "other"], "id column"),
    ],
)
def test_another_job_is_refused(
    artifact: Path, bertrt_command: Command, tmp_path: Path, changes: list[str], what: str
) -> None:
    source = write(tmp_path / "in.jsonl", [{"id": 1, "text": "a", "other": "b"}])
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", source, "--output", output)
    first = [*command] if "--id" in changes else [*command, "--id", "id"]
    assert bertrt_command(*first).status == 0
    before = {path: path.read_bytes() for path in output.iterdir()}
    done = bertrt_command(*first, *changes)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"bertrt: error: '{output}' has a job with another {what}: choose another --output, or "
        "delete it\n"
    )
    assert {path: path.read_bytes() for path in output.iterdir()} == before


def test_another_artifact_or_input_is_refused(
    artifact: Path, make_artifact: Callable[..., Path], bertrt_command: Command, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    output = tmp_path / "out"
    command = ("--input", source, "--output", output)
    assert bertrt_command("batch", artifact, *command).status == 0
    other = make_artifact("BertModel", num_hidden_layers=1)
    assert "another artifact: choose" in bertrt_command("batch", other, *command).err
    more = write(tmp_path / "more.jsonl", [{"text": "a"}])
    assert (
        "another input: choose" in bertrt_command("batch", artifact, *command, "--input", more).err
    )
    write(source, [{"text": "b"}])  # of the same size
    assert "another input: choose" in bertrt_command("batch", artifact, *command).err


def test_a_directory_with_other_files(
    artifact: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    done = bertrt_command("batch", artifact, "--input", source, "--output", output)
    assert done.err.endswith("has files that no job wrote: choose another --output\n")
    assert names(output) == {"notes.txt"}
    done = bertrt_command("batch", artifact, "--input", source, "--output", source)
    assert done.err.endswith("is not a directory: choose another --output\n")
    (output / "notes.txt").unlink()  # an empty directory is fine
    assert bertrt_command("batch", artifact, "--input", source, "--output", output).status == 0


@pytest.mark.parametrize("text", ["[]", '{"name": "app"}'])
def test_a_manifest_of_something_else(
    artifact: Path, bertrt_command: Command, tmp_path: Path, text: str
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    output = tmp_path / "out"
    output.mkdir()
    (output / "_manifest.json").write_text(text)
    done = bertrt_command("batch", artifact, "--input", source, "--output", output)
    assert done.err == (
        f"bertrt: error: '{output / '_manifest.json'}' was not written by a job: choose another "
        "--output\n"
    )
    assert names(output) == {"_manifest.json"}


@pytest.mark.parametrize(
    ("format", "name"), [("parquet", "part-00000.parquet"), ("npy", "ids.parquet")]
)
def test_a_complete_directory_that_lost_a_file(
    artifact: Path, bertrt_command: Command, tmp_path: Path, format: str, name: str
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    output = tmp_path / f"out.{format}"
    command = ("batch", artifact, "--input", source, "--output", output)
    assert bertrt_command(*command).status == 0
    (output / name).unlink()
    assert f"lacks '{name}': delete the directory" in bertrt_command(*command).err


def test_rights(
    artifact: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is there is enough, as a volume is in a container."""
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    output, access = tmp_path / "volumes" / "out", os.access
    output.mkdir(parents=True)
    command = ("batch", artifact, "--input", source, "--output", output)
    readable = {output}
    monkeypatch.setattr(
        "os.access", lambda path, mode: Path(path) not in readable and access(path, mode)
    )
    assert f"cannot write to '{output}': choose" in bertrt_command(*command).err
    readable = {output.parent}
    assert bertrt_command(*command).status == 0
    other = output.parent / "other"
    done = bertrt_command(*command, "--output", other)
    assert f"cannot write to '{output.parent}': choose" in done.err
    other.symlink_to("nowhere")
    done = bertrt_command(*command, "--output", other)
    assert f"'{other}' is not a directory: choose" in done.err


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_missing_column(
    artifact: Path, bertrt_command: Command, tmp_path: Path, ending: str
) -> None:
    pytest.importorskip("pyarrow.csv")
    source = write(tmp_path / f"in.{ending}", [{"id": 1, "body": "a"}])
    for flags, name in (([], "text"), (["--column", "body", "--id", "key"], "key")):
        done = bertrt_command(
            "batch", artifact, "--input", source, "--output", tmp_path / "out", *flags
        )
        assert (done.status, done.out) == (2, "")
        assert done.err.endswith(f"{source}' has no column '{name}': it has 'id', 'body'\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "none-*.parquet"], "no file is found at 'none-*.parquet'"),
        (["--input", "texts.txt"], "texts.txt' does not end in .parquet, .jsonl, .ndjson, .csv"),
        (["--input", "broken.parquet"], "broken.parquet' is not a Parquet file, or damaged"),
        (["--pooling", "best"], "--pooling is 'best'"),
        (["--precision", "int8"], "--precision int8 needs --ranges FILE"),
        (["--task", "fill-mask"], "this artifact serves"),
        (["-o", "nothing=1"], "has no option 'nothing'"),
        (["--output", "file/below"], "cannot write to"),
    ],
)  # fmt: skip
def test_errors_leave_nothing(
    artifact: Path,
    bertrt_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", [{"text": "a"}])
    for name in ("texts.txt", "broken.parquet", "file"):
        (tmp_path / name).write_text("text")
    given = {"--input": "in.jsonl", "--output": "out"}
    rest = [
        part for name, value in given.items() if name not in arguments for part in (name, value)
    ]
    done = bertrt_command("batch", artifact, *rest, *arguments)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("bertrt: error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_npy_of_labels_is_refused(
    make_artifact: Callable[..., Path], bertrt_command: Command, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    classifier = make_artifact("BertForSequenceClassification")
    output = tmp_path / "out.npy"
    done = bertrt_command("batch", classifier, "--input", source, "--output", output)
    assert done.err.endswith("this task does not give: choose the format parquet or jsonl\n")
    assert not output.exists()


def test_a_row_that_fails(artifact: Path, bertrt_command: Command, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"id": n, "text": "a"} for n in range(8)])
    with source.open("a") as file:
        file.write(json.dumps({"id": "x8", "text": LONG}) + "\n")
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", source, "--output", output, "--shard-rows", 3)
    done = bertrt_command(*command, "--on-error", "fail")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("bertrt: error: the row with row 8: the text has 122 tokens")
    # What was finished stays, and the same command fails the same way.
    assert {n for n in names(output) if not n.startswith(".")} == {
        "part-00000.parquet",
        "part-00001.parquet",
    }
    assert bertrt_command(*command, "--on-error", "fail") == done


def test_formats_by_the_ending(artifact: Path, bertrt_command: Command, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    for name, part in (("o.jsonl", "part-00000.jsonl"), ("o.x", "part-00000.parquet")):
        assert (
            bertrt_command("batch", artifact, "--input", source, "--output", tmp_path / name).status
            == 0
        )
        assert part in names(tmp_path / name)
