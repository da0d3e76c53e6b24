"""The results file: rows come back as they went, and a half-written line costs only itself."""

import json

import pytest

from machine import describe_machine
from results import append, facts, of_run, read


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


def test_rows_come_back_in_order_with_the_time_of_writing(tmp_path):
    path = tmp_path / "new" / "folder" / "results.jsonl"
    append(path, [row(shape="1x8"), row(shape="1x32", title="¼ — 中")])
    append(path, [row(shape="8x128")])
    rows = read(path)
    assert [one["shape"] for one in rows] == ["1x8", "1x32", "8x128"]
    assert rows[1]["title"] == "¼ — 中"
    assert rows[0]["time"].startswith("20")
    assert {**rows[0], "time": ""} == {**row(), "time": ""}


def test_a_line_cut_in_the_middle_costs_only_itself(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    append(path, [row(shape="1x8"), row(shape="1x32")])
    path.write_bytes(path.read_bytes()[:-40])
    append(path, [row(shape="8x128"), row(shape="32x128")])
    assert [one["shape"] for one in read(path)] == ["1x8", "8x128", "32x128"]
    assert "line 2 is not a whole row" in capsys.readouterr().err


def test_a_cut_character_and_foreign_lines_are_skipped(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    append(path, [row()])
    with path.open("ab") as file:
        file.write('{"title": "中'.encode()[:-1] + b"\n[1, 2]\n\n7\n")
    append(path, [row(shape="8x128")])
    assert [one["shape"] for one in read(path)] == ["1x8", "8x128"]
    assert capsys.readouterr().err.count("skipped") == 3


def test_rows_that_came_before_a_bad_one_are_written(tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(path, [row(), row(median_ms=float("nan"))])
    with pytest.raises(ValueError, match="has no shape, run"):
        append(path, [{key: row()[key] for key in row() if key not in ("shape", "run")}])
    assert len(read(path)) == 1


def test_the_newest_run_is_taken_and_the_last_of_equal_rows():
    rows = [
        row(run="20260101T000000Z", median_ms=1.0),
        row(run="20260102T000000Z", median_ms=2.0),
        row(run="20260102T000000Z", median_ms=3.0),
        row(run="20260102T000000Z", shape="8x128", median_ms=4.0),
        row(run="20260101T000000Z", shape="8x128", median_ms=5.0),
    ]
    assert [one["median_ms"] for one in of_run(rows)] == [3.0, 4.0]
    assert [one["median_ms"] for one in of_run(rows, "20260101T000000Z")] == [1.0, 5.0]
    with pytest.raises(ValueError, match="have 20260101T000000Z, 20260102T000000Z"):
        of_run(rows, "yesterday")
    with pytest.raises(ValueError, match="have none"):
        of_run([])


def test_facts_fit_into_a_row():
    found = facts(threads=2)
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
