"""`bertrt batch` on inputs as they come: broken rows, odd ids, mixed files, empty ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.batch.inputs import find_inputs, reader_of
from bertrt.batch.plan import make_plan, read_rows
from bertrt.batch.rows import Columns, Range

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Command = Callable[..., Any]
ATOL = 1e-5


@pytest.fixture
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertModel")


@pytest.fixture
def batch(
    make_artifact: Callable[..., Path], bertrt_command: Command, tmp_path: Path
) -> Callable[..., Any]:
    """Run the command on files; return its rows if it succeeds, or else its error."""
    artifact = make_artifact("BertModel")

    def run(*inputs: Path, flags: tuple[Any, ...] = ("--id", "id")) -> Any:
        output = tmp_path / "out"
        done = bertrt_command("batch", artifact, "--input", *inputs, "--output", output, *flags)
        if done.status:
            assert not output.exists()
            return done.err
        assert done.err == ""
        parts = sorted(output.glob("part-*.parquet"))
        return [row for part in parts for row in pq.read_table(part).to_pylist()]

    return run


def lines(path: Path, *rows: Any, end: bytes = b"\n", last: bytes | None = None) -> Path:
    """Write lines, of which bytes stand for themselves."""
    data = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in rows]
    path.write_bytes(end.join(data) + (end if last is None else last))
    return path


def test_broken_lines_have_their_own_errors(batch: Any, rt: Any, tmp_path: Path) -> None:
    source = lines(
        tmp_path / "in.jsonl",
        {"id": 1, "text": "the cat"},
        b'{"id": 2, "text": "half',
        b"",
        {"id": 3, "text": 5},
        [1, 2],
        {"id": 4, "text": ["a"]},
        {"id": 5},
        {"id": 6, "text": None},
        b'{"id": 7, "text": "\xff"}',
        b'{"id": 8, "text": "\\ud800"}',
        b"   ",
        b"[" * 100_000,
        {"text": "no id", "id": None},
        {"text": "no id"},
        {"id": 9, "text": "a dog"},
    )
    rows = batch(source)
    assert [row["id"] for row in rows] == [1, None, 3, None, 4, 5, 6, None, 8, None, None, None, 9]
    assert [row["error"] for row in rows] == [
        None,
        "line 2 is not JSON (Unterminated string starting at): correct it",
        "the text in line 4 is int: give a string",
        'line 5 is JSON, but no object: write {"text": …}',
        "the text in line 6 is list: give a string",
        None,
        None,
        "line 9 is not JSON (UnicodeDecodeError): correct it",
        rows[8]["error"],
        rows[9]["error"],
        None,
        None,
        None,
    ]
    assert "lone surrogate" in rows[8]["error"]
    assert rows[9]["error"].startswith("line 12 is not JSON")
    good = [0, 10, 11, 12]
    expected = rt.embed(["the cat", "no id", "no id", "a dog"])
    np.testing.assert_allclose([rows[n]["embedding"] for n in good], expected, atol=ATOL)
    assert all(row["embedding"] is None for n, row in enumerate(rows) if n not in good)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [b"", None], ids=["open", "closed"])
@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "csv"])
def test_line_ends(
    batch: Any, rt: Any, tmp_path: Path, ending: str, end: bytes, last: bytes | None
) -> None:
    texts = [f"caf\u00e9 \u2028 \u4e2d {n}" for n in range(9)]
    if ending == "csv":
        rows = [b"id,text", *(f'{n},"{text}"'.encode() for n, text in enumerate(texts))]
    else:
        rows = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
    source = lines(tmp_path / f"in.{ending}", *rows, end=end, last=last)
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())  # a byte order mark
    found = batch(source, flags=("--id", "id", "--shard-rows", 4))
    assert [row["id"] for row in found] == [str(n) for n in range(9)]
    np.testing.assert_allclose([row["embedding"] for row in found], rt.embed(texts), atol=ATOL)


def test_csv_with_quotes_and_broken_records(batch: Any, rt: Any, tmp_path: Path) -> None:
    source = lines(
        tmp_path / "in.csv",
        b"text,id,more",
        b'"the ""cat""\nsat, here",a,1',
        b"too few,b",
        b"",
        b'"a\r\ndog",c,2',
        b"\xff,d,3",
        b",e,4",
    )
    rows = batch(source, flags=("--id", "id", "--shard-rows", 2))
    assert [row["id"] for row in rows] == ["a", None, "c", "d", "e"]
    expected = rt.embed(['the "cat"\nsat, here', "a\r\ndog", ""])
    np.testing.assert_allclose([rows[n]["embedding"] for n in (0, 2, 4)], expected, atol=ATOL)
    assert rows[1]["error"] == "line 4 has 2 fields and the header has 3: correct it"
    assert "lone surrogate" in rows[3]["error"]
    assert rows[3]["embedding"] is None


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b'id,text\n1,"abc\n2,def\n3,ghi\n', 2, "a quote is never closed"),
        (b'id,text\n1,abc\n2,"d""ef', 3, "a quote is never closed"),
        (b'"id,text\n1,abc\n', 1, "a quote is never closed"),
        # The next row's quote closes it, and two rows would be one with two fields.
        (b'id,text\n1,"abc\n2,"def"\n3,ghi\n', 2, "',' expected after '\"'"),
        (b'id,text\n1,"abc"def\n', 2, "',' expected after '\"'"),
    ],
)
def test_a_wrong_quote_swallows_no_rows(
    batch: Any, tmp_path: Path, data: bytes, line: int, reason: str
) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(data)
    expected = f"bertrt: error: '{source}' line {line} is not CSV ({reason}): correct it\n"
    assert batch(source) == expected


def test_quotes_that_are_text(batch: Any, rt: Any, tmp_path: Path) -> None:
    rows = [b"id,text", b'1,5" and 6"', b'2,"he said ""hi"" twice"', b'3,""', b'4,"a\nb"']
    found = batch(lines(tmp_path / "in.csv", *rows))
    expected = rt.embed(['5" and 6"', 'he said "hi" twice', "", "a\nb"])
    np.testing.assert_allclose([row["embedding"] for row in found], expected, atol=ATOL)


def test_a_csv_file_with_a_column_twice(batch: Any, tmp_path: Path) -> None:
    for twice in (b"id,text,text", b"id,id,text"):
        source = lines(tmp_path / "in.csv", twice, b"1,a,b")
        assert f"'{source}' has several columns" in batch(source)
    # Others do not matter.
    assert len(batch(lines(tmp_path / "in.csv", b"more,id,more,text", b"x,1,y,a"))) == 1


def test_a_line_of_megabytes(batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertrt.batch.read_lines._LONGEST", 1 << 10)
    long = {"id": 2, "text": "a" * 5000}
    source = lines(tmp_path / "in.jsonl", {"id": 1, "text": "a"}, long, {"id": 3, "text": "b"})
    rows = batch(source)
    assert [row["id"] for row in rows] == [1, None, 3]
    assert [row["embedding"] is None for row in rows] == [False, True, False]
    assert rows[1]["error"].startswith("line 2 has more than")


def test_a_csv_file_with_a_line_of_megabytes(
    batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its quotes are not known, so that the records after it are not either."""
    monkeypatch.setattr("bertrt.batch.read_lines._LONGEST", 1 << 20)
    source = lines(tmp_path / "in.csv", b"id,text", b"1," + b"a" * (1 << 20), b"2,b")
    assert batch(source) == (f"bertrt: error: '{source}': line 2 has more than 1 MiB: shorten it\n")


def test_a_csv_file_without_a_header(batch: Any, tmp_path: Path) -> None:
    """Its first row is taken for names, and has a text."""
    error = batch(lines(tmp_path / "in.csv", b"1," + b"my secret " * 1000, b"2,b"))
    assert "has no column 'text': it has '1', 'my secret my" in error
    assert len(error) < 400


def test_a_parquet_file_with_a_column_twice(batch: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    for name in ("id", "text"):
        columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
        pq.write_table(pa.Table.from_arrays(columns, names=["id", "text", name]), source)
        assert f"'{source}' has several columns '{name}': rename all but one" in batch(source)


def test_names_with_dots(batch: Any, tmp_path: Path) -> None:
    """Parquet takes a dot for a field of a struct."""
    columns = {"id": [{"x": 1}, {"x": 2}], "id.x": ["a", "b"], "text": ["the cat", "a dog"]}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    rows = batch(tmp_path / "in.parquet", flags=("--id", "id.x"))
    assert [row["id.x"] for row in rows] == ["a", "b"]


def test_files_of_other_schemas(batch: Any, rt: Any, tmp_path: Path) -> None:
    """The columns are taken by name; types may differ as long as they mean the same."""
    pq.write_table(
        pa.table({"id": pa.array([1, 2], pa.int32()), "text": ["the cat", None]}),
        tmp_path / "a.parquet",
    )
    texts = pa.array(["a dog", "a dog"]).dictionary_encode()
    columns = {"more": [0.5, 0.5], "text": texts, "id": pa.array([3, 4], pa.uint64())}
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    c = lines(tmp_path / "c.jsonl", {"text": "paris", "id": 2**62, "more": {}})
    rows = batch(tmp_path / "a.parquet", tmp_path / "b.parquet", c)
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 2**62]
    expected = rt.embed(["the cat", "a dog", "a dog", "paris"])
    np.testing.assert_allclose([rows[n]["embedding"] for n in (0, 2, 3, 4)], expected, atol=ATOL)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1, 2**63], pa.uint64()), "the id is 9223372036854775808: give a whole number"),
        (pa.array([0.5, 1.5]), "the id column 'id' has double: give whole numbers or strings"),
        (pa.array([True, False]), "the id column 'id' has bool"),
        (pa.array([b"a", b"b"]), "the id column 'id' has binary"),
        (pa.array([b"a", b"\xff"]).view(pa.string()), "in.parquet': an id is not UTF-8 (invalid"),
        (pa.array(["a", "a"]), "the id 'a' of row 0 occurs again in row 1, in"),
        (pa.array([7, 7]), "the id 7 of row 0 occurs again in row 1, in"),
    ],
)
def test_refused_ids_of_parquet(batch: Any, tmp_path: Path, values: Any, message: str) -> None:
    pq.write_table(pa.table({"id": values, "text": ["a", "b"]}), tmp_path / "in.parquet")
    assert message in batch(tmp_path / "in.parquet")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["1.5", "2"], "line 1: the id is 1.5: give a whole number or a string"),
        (["true", "2"], "line 1: the id is True: give a whole number or a string"),
        (["1", str(2**63)], f"line 2: the id is {2**63}: give a whole number or a string"),
        (["1", '"1"'], "the ids are whole numbers in '"),
        (["{}", "2"], "line 1: the id is {}: give a whole number or a string"),
        (['"\\ud800"', '"a"'], "line 1: the id '\\ud800' is not Unicode text: correct it"),
        (['"a"', '"a"'], "the id 'a' of row 0 occurs again in row 1, in"),
    ],
)
def test_refused_ids_of_json_lines(
    batch: Any, tmp_path: Path, ids: list[str], message: str
) -> None:
    rows = [f'{{"id": {id}, "text": "a"}}'.encode() for id in ids]
    assert message in batch(lines(tmp_path / "in.jsonl", *rows))


def test_duplicate_ids_in_two_files(batch: Any, tmp_path: Path) -> None:
    a = lines(tmp_path / "a.jsonl", {"id": "x", "text": "a"}, {"id": None, "text": "a"})
    b = lines(tmp_path / "b.jsonl", {"id": None, "text": "b"}, {"id": "x", "text": "c"})
    assert f"the id 'x' of row 0 occurs again in row 3, in '{b}'" in batch(a, b)
    rows = batch(a, b, flags=("--id", "id", "--allow-duplicate-ids", "--shard-rows", 3))
    assert [(row["row"], row["id"]) for row in rows] == [(0, "x"), (1, None), (2, None), (3, "x")]


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "header.csv", "in.parquet", "none.parquet"])
def test_empty_files(batch: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    schema = pa.schema({"id": pa.string(), "text": pa.string()})
    if name == "none.parquet":
        pq.ParquetWriter(path, schema).close()  # not even a row group
    elif name == "in.parquet":
        pq.write_table(schema.empty_table(), path)
    else:
        path.write_text("id,text\n" if name == "header.csv" else "")
    assert batch(path) == []
    (part,) = (tmp_path / "out").glob("part-*")
    assert pq.read_schema(part).names == ["id", "embedding", "truncated", "error"]


def test_an_empty_file_among_others(batch: Any, tmp_path: Path) -> None:
    empty = lines(tmp_path / "a.jsonl", last=b"")
    other = lines(tmp_path / "b.jsonl", {"id": 1, "text": "a"})
    assert [row["id"] for row in batch(empty, other, empty)] == [1]


@pytest.mark.parametrize("group", [3, 1000])
@pytest.mark.parametrize("shard", [2, 7, 50])
def test_row_groups_and_shards(batch: Any, rt: Any, tmp_path: Path, group: int, shard: int) -> None:
    """Shards have their rows wherever row groups end."""
    texts = [f"{'the cat ' * (n % 5)}{n}" for n in range(40)]
    table = pa.table({"id": range(40), "text": texts})
    pq.write_table(table.slice(0, 23), tmp_path / "a.parquet", row_group_size=group)
    pq.write_table(table.slice(23), tmp_path / "b.parquet", row_group_size=group)
    rows = batch(
        tmp_path / "a.parquet", tmp_path / "b.parquet", flags=("--id", "id", "--shard-rows", shard)
    )
    assert [row["id"] for row in rows] == list(range(40))
    np.testing.assert_allclose([row["embedding"] for row in rows], rt.embed(texts), atol=ATOL)
    sizes = [pq.read_metadata(p).num_rows for p in sorted((tmp_path / "out").glob("part-*"))]
    assert sizes == [shard] * (40 // shard) + ([40 % shard] if 40 % shard else [])


def test_names_with_the_signs_of_a_pattern(batch: Any, tmp_path: Path) -> None:
    source = lines(tmp_path / "in[1]*.jsonl", {"id": 1, "text": "a"})
    assert [row["id"] for row in batch(source)] == [1]


def test_links_have_the_ending_of_their_own_name(batch: Any, tmp_path: Path) -> None:
    """As in the cache of a hub, where the file behind a link is named by its hash."""
    lines(tmp_path / "in.jsonl", {"id": 1, "text": "a"}).rename(tmp_path / "0a1b2c")
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).symlink_to("0a1b2c")
    assert [row["id"] for row in batch(tmp_path / "*.jsonl")] == [1]


def test_long_texts_are_answered_by_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertrt.batch.plan._LETTERS", 100)
    monkeypatch.setattr("bertrt.batch.read_lines._LONGEST", 100)
    source = lines(tmp_path / "in.jsonl", *({"text": "a" * 40} for _ in range(9)), {"text": None})
    inputs, columns = find_inputs([str(source)], tmp_path / "out"), Columns("text", None)
    plan = make_plan(
        inputs, columns, shard_rows=50, allow_duplicate_ids=False, report=lambda rows: None
    )
    groups = list(read_rows(inputs, columns, plan.shards[0]))
    assert sum(map(len, groups)) == 10
    assert max(group.letters for group in groups) == 120


@pytest.mark.parametrize("is_dictionary", [False, True])
def test_long_texts_of_parquet_are_read_by_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dictionary: bool
) -> None:
    """The rows of a batch depend on the bytes of their own row group."""
    monkeypatch.setattr("bertrt.batch.read_parquet._BYTES", 10_000)
    monkeypatch.setattr("bertrt.batch.read_parquet._ROWS", 64)
    source, columns = tmp_path / "in.parquet", Columns("text", None)
    texts = [f"{n:04}" * (1 if n < 200 else 1000) for n in range(300)]
    table = pa.table({"text": texts, "more": ["b" * 9000] * 300})
    pq.write_table(table, source, row_group_size=100, use_dictionary=is_dictionary)
    reader = reader_of(source)
    read = list(reader.read(source, columns, Range(0, 150, 290, 140)))
    assert [text for rows in read for text in rows.texts] == texts[150:290]
    assert [len(rows) for rows in read] == [14, 36] + [2] * 45


def test_an_id_column_named_row(batch: Any, tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", {"row": 5, "text": "a"})
    error = batch(source, flags=("--id", "row", "--allow-duplicate-ids"))
    assert "the id column is 'row', which the rows' numbers have too" in error
    assert [row["row"] for row in batch(source, flags=("--id", "row"))] == [5]


def test_a_file_given_twice_is_read_once(batch: Any, tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", {"id": 1, "text": "a"})
    assert len(batch(source, tmp_path / "*.jsonl", tmp_path / "." / "in.jsonl")) == 1
