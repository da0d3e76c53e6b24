"""The results file: rows are read as they were written, and a broken line affects no other."""

import json

import pytest

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.results import append, describe_run, of_run, read


def row(**values):
    return {
        "workload": "fixed",
        "model": "minilm",
        "task": "embeddings",
        "contender": "eager",
        "shape": "1x8",
        "status": "timed",
        "run": "20260101T000000Z",
        "median_ms": 1.5,
        **values,
    }


def test_rows_are_read_in_order_with_the_time_of_writing(tmp_path):
    path = tmp_path / "new" / "folder" / "results.jsonl"
    append(path, [row(shape="1x8"), row(shape="1x32", title="¼ — 中")])
    append(path, [row(shape="8x128")])
    rows = read(path)
    assert [row["shape"] for row in rows] == ["1x8", "1x32", "8x128"]
    assert rows[1]["title"] == "¼ — 中"
    assert rows[0]["time"].startswith("20")
    assert {**rows[0], "time": ""} == {**row(), "time": ""}


def test_old_rows_get_the_present_name_of_their_workload(tmp_path):
    path = tmp_path / "results.jsonl"
    append(path, [row(workload="stream"), row(workload="live")])
    assert [row["workload"] for row in read(path)] == ["live", "live"]


def test_only_a_truncated_line_is_lost(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    append(path, [row(shape="1x8"), row(shape="1x32")])
    path.write_bytes(path.read_bytes()[:-40])
    append(path, [row(shape="8x128"), row(shape="32x128")])
    assert [row["shape"] for row in read(path)] == ["1x8", "8x128", "32x128"]
    assert "line 2 is not a complete row" in capsys.readouterr().err


def test_truncated_characters_and_other_lines_are_skipped(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    append(path, [row()])
    with path.open("ab") as file:
        file.write('{"title": "中'.encode()[:-1] + b"\n[1, 2]\n\n7\n")
    append(path, [row(shape="8x128")])
    assert [row["shape"] for row in read(path)] == ["1x8", "8x128"]
    assert capsys.readouterr().err.count("skipped") == 3


def test_rows_before_an_invalid_one_are_written(tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(path, [row(), row(median_ms=float("nan"))])
    with pytest.raises(ValueError, match="has no shape, run"):
        append(path, [{key: row()[key] for key in row() if key not in ("shape", "run")}])
    assert len(read(path)) == 1


def test_of_run_takes_the_newest_run_and_the_last_of_repeated_rows():
    rows = [
        row(run="20260101T000000Z", median_ms=1.0),
        row(run="20260102T000000Z", median_ms=2.0),
        row(run="20260102T000000Z", median_ms=3.0),
        row(run="20260102T000000Z", shape="8x128", median_ms=4.0),
        row(run="20260101T000000Z", shape="8x128", median_ms=5.0),
    ]
    assert [row["median_ms"] for row in of_run(rows)] == [3.0, 4.0]
    assert [row["median_ms"] for row in of_run(rows, "20260101T000000Z")] == [1.0, 5.0]
    with pytest.raises(ValueError, match="have 20260101T000000Z, 20260102T000000Z"):
        of_run(rows, "yesterday")
    with pytest.raises(ValueError, match="have none"):
        of_run([])


def test_the_description_of_a_run_fits_into_a_row():
    found = describe_run(threads=2)
    assert found["machine"]["threads"] == 2
    assert json.loads(json.dumps(found)) == found


def test_the_machine_is_described_from_cpuinfo(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\n"
    )
    machine = describe_machine(tmp_path)
    assert machine["cpu"] == "A CPU"
    assert machine["flags"] == ["avx2", "avx512f", "avx512_bf16"]
    assert machine["cores"] >= 1
