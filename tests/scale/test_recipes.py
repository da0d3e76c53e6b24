"""The code of docs/guides/batch.md for Ray Data, Spark and Dask, with the packages that it is for.

ARTIFACTS is the folder that tests/clients/make_artifacts.py wrote; see scale.sh.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bertrt

EMBEDDER = Path(os.environ["ARTIFACTS"]) / "embedder"
PAGE = Path(__file__).parents[2] / "docs" / "guides" / "batch.md"
# float32 sums in batches of other sizes.
ATOL = 1e-5
TEXTS = ["Plants create oxygen.", None, "a cat", "", "the dog ran", "Paris"] * 5


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """A factory: a heading of the guide to the rows that the last code below it writes."""
    (tmp_path / "minilm").symlink_to(EMBEDDER)
    (tmp_path / "texts").mkdir()
    for part in range(2):
        rows = slice(part * 15, part * 15 + 15)
        table = pa.table({"id": [*range(30)][rows], "text": TEXTS[rows], "more": [0.5] * 15})
        pq.write_table(table, tmp_path / "texts" / f"{part}.parquet")

    def run(heading: str) -> list[dict[str, Any]]:
        sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        section = next(one for one in sections if one.startswith(f"{heading}\n"))
        code = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[-1]
        code = code.replace("/data/", f"{tmp_path}/")
        exec(compile(code, f"{PAGE.name}: {heading}", "exec"), {"__name__": "__main__"})
        parts = sorted((tmp_path / "vectors").glob("*.parquet"))
        rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
        return sorted(rows, key=lambda row: row["id"])

    return run


def check(rows: list[dict[str, Any]]) -> None:
    """Each row is there once, with the runtime's vector or none."""
    assert [row["id"] for row in rows] == list(range(30))
    assert {row["error"] for row in rows} == {None}
    with bertrt.load(EMBEDDER, threads=1) as rt:
        expected = rt.embed([text for text in TEXTS if text is not None])
    found = [row["embedding"] for row in rows]
    assert [vector is None for vector in found] == [text is None for text in TEXTS]
    np.testing.assert_allclose([v for v in found if v is not None], expected, atol=ATOL)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.fixture
def cluster() -> Iterator[None]:
    import ray

    ray.init(
        num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False
    )
    yield
    ray.shutdown()


def test_ray(run: Callable[[str], list[dict[str, Any]]], cluster: None) -> None:
    check(run("Ray"))


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
def test_spark(run: Callable[[str], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.sql import SparkSession

    # Its Python workers are this one.
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    options = {"spark.ui.enabled": "false", "spark.driver.memory": "512m"}
    builder = SparkSession.builder.master("local[2]")
    for name, value in options.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        check(run("Spark"))
    finally:
        spark.stop()


def test_dask(run: Callable[[str], list[dict[str, Any]]]) -> None:
    check(run("Dask"))
