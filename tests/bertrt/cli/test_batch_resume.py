"""`bertrt batch` after a kill: each row is there exactly once, and finished parts stay."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.batch.output_directory import OutputDirectory
from bertrt.batch.plan import Plan

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Command = Callable[..., Any]
BERTRT = [sys.executable, "-P", "-m", "bertrt"]
FORMATS = ["parquet", "jsonl", "npy"]
ROWS, SHARD = 13, 5


@pytest.fixture
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertModel")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.parquet", ROWS)


def write(path: Path, rows: int) -> Path:
    """Write texts, of which each seventh is null and each eleventh is too long."""
    texts = [
        None if n % 7 == 6 else "the cat " * (60 if n % 11 == 10 else n % 9) for n in range(rows)
    ]
    pq.write_table(pa.table({"id": [f"id {n}" for n in range(rows)], "text": texts}), path)
    return path


def read(output: Path) -> tuple[list[str], Any]:
    """Return the ids and the vectors of a complete output, in its order; None for no vector."""
    assert (output / "_manifest.json").exists()
    if (output / "embeddings.npy").exists():
        ids = pq.read_table(output / "ids.parquet")
        vectors = np.load(output / "embeddings.npy")
        return ids["id"].to_pylist(), [None if np.isnan(v).all() else v.tolist() for v in vectors]
    rows = []
    for path in sorted(output.glob("part-*")):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        else:
            rows += [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row["id"] for row in rows], [row["embedding"] for row in rows]


def finished(output: Path) -> dict[str, tuple[int, int]]:
    """Return the parts that are there, with what changes when they are written again."""
    parts = [*output.glob("part-*"), *output.glob(".part-*.parquet")]
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in parts
        if path.suffix != ".tmp"
    }


def leftovers(output: Path) -> set[str]:
    return {path.name for path in output.glob(".*")} - {".lock"}


@contextlib.contextmanager
def dying_at(step: int, *, after: bool) -> Iterator[None]:
    """Stop at a step, the renaming of a file, just before or after it; leave all as it is then."""
    replace, left = os.replace, step

    def counted(source: Any, target: Any) -> None:
        nonlocal left
        left -= 1
        if left or after:
            replace(source, target)
        if not left:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", counted)
        patch.setattr("bertrt.batch.output_directory.remove", lambda path: None)
        yield


@pytest.mark.parametrize("format", FORMATS)
def test_a_death_at_each_step(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path, format: str
) -> None:
    def command(output: Path) -> Any:
        return bertrt_command(
            *("batch", artifact, "--input", source, "--id", "id", "--format", format),
            *("--output", output, "--shard-rows", SHARD),
        )

    whole = tmp_path / "whole"
    assert command(whole).status == 0
    ids, vectors = read(whole)
    assert ids == [f"id {n}" for n in range(ROWS)]
    assert vectors[0] != vectors[1]
    if format == "parquet":  # readers of folders leave out the manifest and the lock
        assert pq.read_table(whole)["id"].to_pylist() == ids
    for step in range(1, 50):
        statuses = set()
        for after in (False, True):
            output = tmp_path / f"out-{step}-{after}"
            with dying_at(step, after=after):
                statuses.add(command(output).status)
            before = finished(output)
            again = command(output)
            assert again == (0, f"{output}: 11 of 13 rows answered, 1 with an error\n", ""), (
                step,
                after,
            )
            assert read(output) == (ids, vectors)
            if format != "npy":
                assert before.items() <= finished(output).items()
            assert leftovers(output) == set()
        if statuses == {0}:  # a job has no more steps
            break
        assert statuses == {130}
    assert 7 < step < 49


def test_a_finished_part_is_not_computed_again(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: Any
) -> None:
    from bertrt.batch.table_answerer import TableAnswerer

    answered: list[str] = []
    answer = TableAnswerer.answer

    def recorded(self: Any, ids: Any, texts: Any) -> Any:
        answered.extend(ids.to_pylist())
        return answer(self, ids, texts)

    monkeypatch.setattr(TableAnswerer, "answer", recorded)
    command = ("batch", artifact, "--input", source, "--id", "id", "--output", tmp_path / "out")
    command += ("--shard-rows", SHARD)
    with dying_at(6, after=False):  # the plan, the counts and a part, twice, and the third counts
        assert bertrt_command(*command).status == 130
    assert answered == [f"id {n}" for n in range(ROWS)]
    answered.clear()
    assert bertrt_command(*command).status == 0
    assert answered == [f"id {n}" for n in range(10, ROWS)]


def test_a_part_that_lost_its_counts_is_computed_again(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", source, "--id", "id", "--output", output)
    command += ("--shard-rows", SHARD)
    with dying_at(6, after=False):
        assert bertrt_command(*command).status == 130
    (output / ".part-00001.json").unlink()
    before = finished(output)
    assert bertrt_command(*command).status == 0
    assert read(output)[0] == [f"id {n}" for n in range(ROWS)]
    after = finished(output)
    assert [name for name in before if before[name] != after[name]] == ["part-00001.parquet"]


def test_an_array_that_is_lost_is_computed_again(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    """Its rows that were finished would be zeros."""
    command = ("batch", artifact, "--input", source, "--id", "id", "--shard-rows", SHARD)
    output = tmp_path / "out.npy"
    with dying_at(6, after=False):
        assert bertrt_command(*command, "--output", output).status == 130
    assert finished(output)
    (output / ".embeddings.npy").unlink()
    assert bertrt_command(*command, "--output", output).status == 0
    assert bertrt_command(*command, "--output", tmp_path / "whole.npy").status == 0
    assert read(output) == read(tmp_path / "whole.npy")


@pytest.mark.parametrize("format", FORMATS)
def test_more_parts_than_names_have_digits_for(
    artifact: Path,
    source: Path,
    bertrt_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
) -> None:
    """Readers of folders sort names, and rows keep the order of the input."""
    monkeypatch.setattr("bertrt.batch.plan._DIGITS", 1)
    output = tmp_path / f"out.{format}"
    command = ("batch", artifact, "--input", source, "--id", "id", "--output", output)
    command += ("--shard-rows", 1)
    with dying_at(25, after=False):
        assert bertrt_command(*command).status == 130
    before = finished(output)
    assert len(before) == 11 if format == "npy" else 12
    assert bertrt_command(*command).status == 0
    assert read(output)[0] == [f"id {n}" for n in range(ROWS)]
    if format != "npy":
        assert before.items() <= finished(output).items()
        assert set(finished(output)) == {f"part-{n:02}.{format}" for n in range(ROWS)}


def test_names_of_parts() -> None:
    for count, last in ((1, "part-00000"), (100_000, "part-99999"), (100_001, "part-100000")):
        shards = Plan.from_json({"id_type": None, "shards": [[]] * count}).shards
        names = [shard.name for shard in shards]
        assert names == sorted(set(names))
        assert names[-1] == last


# The most bytes of a file, which stands for a full disk.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
from bertrt.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("parquet", "part-00000.parquet"),
        ("jsonl", "part-00000.jsonl"),
        ("npy", ".embeddings.npy"),
    ],
)
def test_a_full_disk(artifact: Path, tmp_path: Path, format: str, name: str) -> None:
    """The error names the file, and the same command goes on when there is room."""
    source, output = write(tmp_path / "in.parquet", 400), tmp_path / f"out.{format}"
    given = ["batch", str(artifact), "--input", str(source), "--id", "id", "--output", str(output)]
    command = [sys.executable, "-P", "-c", LIMITED, *given, "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"bertrt: error: '{output / name}' cannot be written (")
    assert "File too large" in done.stderr
    assert not list(output.glob("*.tmp"))
    assert finished(output) == {}
    done = subprocess.run(
        [*BERTRT, *given, "--threads", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert read(output)[0] == [f"id {n}" for n in range(400)]


def test_an_input_that_vanishes_while_it_is_read(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: Any
) -> None:
    from bertrt.batch.table_answerer import TableAnswerer

    answer = TableAnswerer.answer

    def removing(self: Any, ids: Any, texts: Any) -> Any:
        source.unlink(missing_ok=True)
        return answer(self, ids, texts)

    monkeypatch.setattr(TableAnswerer, "answer", removing)
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", source, "--output", output, "--shard-rows", SHARD)
    done = bertrt_command(*command)
    assert done.err == (
        f"bertrt: error: '{source}' cannot be read (No such file or directory): make it readable, "
        "and start again\n"
    )
    assert set(finished(output)) == {"part-00000.parquet"}


def test_the_inputs_may_be_named_in_another_way(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: Any
) -> None:
    command = ("batch", artifact, "--output", tmp_path / "out", "--shard-rows", SHARD)
    with dying_at(4, after=True):
        assert bertrt_command(*command, "--input", source).status == 130
    monkeypatch.chdir(tmp_path)
    assert bertrt_command(*command, "--input", "*.parquet").status == 0


def test_an_output_among_the_inputs(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    """A pattern finds the parts of a job that goes on, which are no inputs."""
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", tmp_path / "**/*.parquet", "--output", output)
    command += ("--shard-rows", SHARD)
    with dying_at(4, after=True):
        assert bertrt_command(*command).status == 130
    assert list(output.glob("*.parquet"))
    for _ in range(2):
        assert (
            bertrt_command(*command).out == f"{output}: 11 of 13 rows answered, 1 with an error\n"
        )
    command = ("batch", artifact, "--input", output / "*.parquet", "--output", output)
    assert f"all input files lie in '{output}'" in bertrt_command(*command).err


def test_an_input_that_is_written_while_it_is_read(
    artifact: Path, bertrt_command: Command, tmp_path: Path, monkeypatch: Any
) -> None:
    """Its rows stay as many; no part is made of it."""
    from bertrt.batch.table_answerer import TableAnswerer

    monkeypatch.setattr("bertrt.batch.plan._ROWS", 4)
    monkeypatch.setattr("bertrt.batch.read_lines._ROWS", 4)
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text('{"text": "a"}\n' * ROWS)
    answer = TableAnswerer.answer

    def rewriting(self: Any, ids: Any, texts: Any) -> Any:
        source.write_text('{"text": "b"}\n' * ROWS)
        return answer(self, ids, texts)

    monkeypatch.setattr(TableAnswerer, "answer", rewriting)
    done = bertrt_command("batch", artifact, "--input", source, "--output", output)
    assert done.err == f"bertrt: error: '{source}' was changed while it was read: start again\n"
    assert finished(output) == {}


def test_files_of_others_stay(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", source, "--output", output, "--shard-rows", SHARD)
    with dying_at(4, after=True):
        assert bertrt_command(*command).status == 130
    others = {output / ".hidden", output / "notes.tmp"}
    for path in others:
        path.write_text("mine")
    for _ in range(2):
        assert bertrt_command(*command).status == 0
        assert {path for path in others if path.read_text() == "mine"} == others


def test_another_job_may_not_go_on(
    artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ("batch", artifact, "--input", source, "--output", output, "--shard-rows", SHARD)
    with dying_at(4, after=True):
        assert bertrt_command(*command).status == 130
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    assert "a job with another options" in bertrt_command(*command, "--pooling", "cls").err
    write(source, ROWS + 1)
    assert "a job with another input" in bertrt_command(*command).err
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_two_at_once(artifact: Path, source: Path, bertrt_command: Command, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with OutputDirectory(output).locked():
        done = bertrt_command("batch", artifact, "--input", source, "--output", output)
    assert done.err == (
        f"bertrt: error: another process writes to '{output}': wait until it has ended, or choose "
        "another --output\n"
    )
    assert {path.name for path in output.iterdir()} == {".lock"}
    assert bertrt_command("batch", artifact, "--input", source, "--output", output).status == 0


def start(artifact: Path, source: Path, output: Path, *flags: str) -> "subprocess.Popen[str]":
    command = [
        "batch",
        str(artifact),
        "--input",
        str(source),
        "--id",
        "id",
        "--output",
        str(output),
    ]
    return subprocess.Popen(
        [*BERTRT, *command, "--threads", "1", "--shard-rows", "50", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: "subprocess.Popen[str]", output: Path, pattern: str, count: int) -> None:
    """Wait until files of a pattern are there, or the process has ended."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if len(list(output.glob(pattern))) >= count:
                return
        time.sleep(0.001)


def test_kills(artifact: Path, tmp_path: Path) -> None:
    """Real processes die at moments that their files show."""
    rows = 2000
    source, output = write(tmp_path / "in.parquet", rows), tmp_path / "out"
    kept: dict[str, tuple[int, int]] = {}
    moments = [(".plan.json", 1), ("part-*.tmp", 1), ("part-*.parquet", 9), ("part-*", 20)]
    for pattern, count in moments:
        process = start(artifact, source, output)
        wait_for(process, output, pattern, count)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, pattern
        assert not (output / "_manifest.json").exists()
        assert kept.items() <= finished(output).items()
        kept = finished(output)
    assert 9 <= len(kept) < rows // 50
    process = start(artifact, source, output)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out == f"{output}: 1,559 of 2,000 rows answered, 156 with an error\n"
    assert kept.items() <= finished(output).items()
    ids, _ = read(output)
    assert ids == [f"id {n}" for n in range(rows)]
    assert leftovers(output) == set()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop(artifact: Path, tmp_path: Path, number: int, status: int) -> None:
    """Nothing that is unfinished stays, and the same command goes on."""
    source, output = write(tmp_path / "in.parquet", 1000), tmp_path / "out"
    process = start(artifact, source, output)
    wait_for(process, output, "part-*.parquet", 2)
    process.send_signal(number)
    assert process.communicate() == ("", "")
    assert process.returncode == status
    assert not list(output.glob("*.tmp"))
    assert 2 <= len(finished(output)) < 20
    process = start(artifact, source, output)
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert read(output)[0] == [f"id {n}" for n in range(1000)]


def test_two_processes_that_start_together(artifact: Path, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.parquet", 500), tmp_path / "out"
    processes = [start(artifact, source, output) for _ in range(2)]
    ended = [(process.communicate()[1], process.returncode) for process in processes]
    for error, status in ended:
        assert (error, status) == ("", 0) or "another process writes to" in error
    assert ("", 0) in ended
    assert read(output)[0] == [f"id {n}" for n in range(500)]
