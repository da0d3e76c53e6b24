"""Batch jobs and pipelines on Ray: the runtime's answers, each row once, also after deaths.

ARTIFACTS is the folder that tests/clients/make_artifacts.py wrote; see scale.sh.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from ray.data.checkpoint import CheckpointConfig

import bertrt
import bertrt.ray
from bertrt.cli import main
from bertrt.errors import InputError

EMBEDDER = Path(os.environ["ARTIFACTS"]) / "embedder"
BERTRT = [sys.executable, "-P", "-m", "bertrt"]
# float32 sums in batches of other sizes.
ATOL = 1e-5
LONG = "the cat " * 600
CLUSTER: dict[str, Any] = {"object_store_memory": 100_000_000, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two CPUs, which this process is connected to."""
    ray.init(num_cpus=2, log_to_driver=False, **CLUSTER)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def rt() -> Iterator[bertrt.Runtime]:
    with bertrt.load(EMBEDDER, threads=1) as runtime:
        yield runtime


def texts(count: int) -> list[str | None]:
    """Return texts, of which each seventh is null and each eleventh is too long."""
    return [None if n % 7 == 6 else LONG if n % 11 == 10 else f"the cat {n}" for n in range(count)]


def write(path: Path, count: int) -> Path:
    pq.write_table(pa.table({"id": range(count), "text": texts(count)}), path)
    return path


def check(rows: list[dict[str, Any]], rt: bertrt.Runtime) -> None:
    """Rows are in order, each once, with the runtime's answers or an error."""
    expected = texts(len(rows))
    assert [row["id"] for row in rows] == list(range(len(rows)))
    good = [n for n, text in enumerate(expected) if text not in (None, LONG)]
    vectors = rt.embed([expected[n] for n in good], truncation=False)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    np.testing.assert_allclose([rows[n]["embedding"] for n in good], vectors, atol=ATOL)
    for row, text in zip(rows, expected, strict=True):
        assert (row["error"] is not None) == (text == LONG)
        assert (row["embedding"] is None) == (text in (None, LONG))


def read(output: Path) -> list[dict[str, Any]]:
    assert (output / "_manifest.json").exists()
    return [row for p in sorted(output.glob("part-*")) for row in pq.read_table(p).to_pylist()]


def command(source: Path, output: Path, *flags: str) -> list[str]:
    given = ["batch", str(EMBEDDER), "--input", str(source), "--id", "id", "--output", str(output)]
    return [*given, "--no-truncation", "--shard-rows", "20", "--engine", "ray", *flags]


def test_map(cluster: str, rt: bertrt.Runtime, tmp_path: Path) -> None:
    dataset = ray.data.read_parquet(str(write(tmp_path / "in.parquet", 50)))
    answers = bertrt.ray.map(dataset, EMBEDDER, task="embed", options={"truncation": False})
    check(sorted(answers.take_all(), key=lambda row: row["id"]), rt)


def test_map_with_other_columns_and_a_fixed_pool(cluster: str, rt: bertrt.Runtime) -> None:
    dataset = ray.data.from_items([{"key": "a", "body": "the cat"}, {"key": "b", "body": "paris"}])
    answers = bertrt.ray.map(
        dataset, EMBEDDER, column="body", id_column="key", threads=2, actors=1, batch_size=1
    )
    rows = sorted(answers.take_all(), key=lambda row: row["key"])
    assert [row["key"] for row in rows] == ["a", "b"]
    expected = rt.embed(["the cat", "paris"])
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=ATOL)


def test_actors_that_leave_no_cpu_to_read_with(cluster: str, tmp_path: Path) -> None:
    dataset = ray.data.read_parquet(str(write(tmp_path / "in.parquet", 3)))
    with pytest.warns(UserWarning, match="take 2 CPUs and the cluster has 2: reading and writing"):
        bertrt.ray.map(dataset, EMBEDDER, threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        bertrt.ray.map(dataset, EMBEDDER, threads=1)


def test_actors_that_no_node_has_the_cpus_for(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray waits for a larger node, which may never come, and says nothing."""
    message = "an actor takes 3 CPUs and the largest node of the cluster has 2: nothing is answered"
    source = write(tmp_path / "in.parquet", 3)
    with pytest.warns(UserWarning, match=message):
        bertrt.ray.map(ray.data.read_parquet(str(source)), EMBEDDER, threads=3)

    def interrupt(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bertrt.ray.data._map_batches", interrupt)
    with pytest.warns(UserWarning, match=message):
        assert main(command(source, tmp_path / "out", "--threads", "3")) == 130
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert main(command(source, tmp_path / "out", "--threads", "2")) == 130


def test_a_job_and_what_it_refuses(
    cluster: str, rt: bertrt.Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write(tmp_path / "in.parquet", 90), tmp_path / "out"
    assert main(command(source, output)) == 0
    assert capsys.readouterr().out == f"{output}: 71 of 90 rows answered, 7 with an error\n"
    check(read(output), rt)
    # It is the local engine's job too.
    local = command(source, output, "--engine", "local", "--threads", "1")
    assert main(local) == 0
    assert main(command(source, output, "--pooling", "max")) == 1
    assert "has a job with another options" in capsys.readouterr().err
    assert main(command(source, tmp_path / "out.npy")) == 1
    assert "which several machines cannot write" in capsys.readouterr().err
    assert not (tmp_path / "out.npy").exists()
    assert main(command(source, tmp_path / "failing", "--on-error", "fail")) == 1
    assert "the row with id 10: the text has" in capsys.readouterr().err


def test_an_artifact_that_changes_before_the_actors_open_it(
    cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two models' vectors would lie in one directory."""
    source, output, artifact = tmp_path / "in.parquet", tmp_path / "out", tmp_path / "artifact"
    write(source, 50)
    shutil.copytree(EMBEDDER, artifact)
    arguments = command(source, output)
    arguments[1] = str(artifact)

    def exported_anew(*given: Any) -> None:
        shutil.rmtree(artifact)
        shutil.copytree(EMBEDDER.with_name("reranker"), artifact)
        answer_shards(*given)

    answer_shards = bertrt.ray.data._answer_shards
    monkeypatch.setattr("bertrt.ray.data._answer_shards", exported_anew)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"bertrt: error: '{artifact}' has another artifact than when this job")
    assert error.count("\n") == 1
    assert not list(output.glob("part-*"))


def test_an_input_that_vanishes_before_the_actors_read_it(
    cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, output = write(tmp_path / "in.parquet", 50), tmp_path / "out"

    def without_input(*given: Any) -> None:
        source.rename(tmp_path / "elsewhere")
        answer_shards(*given)

    answer_shards = bertrt.ray.data._answer_shards
    monkeypatch.setattr("bertrt.ray.data._answer_shards", without_input)
    assert main(command(source, output)) == 1
    expected = f"bertrt: error: '{source}' cannot be read (No such file or directory): make it"
    assert capsys.readouterr().err.startswith(expected)


def test_a_driver_that_is_killed(cluster: str, rt: bertrt.Runtime, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.parquet", 2000), tmp_path / "out"
    arguments = [*BERTRT, *command(source, output, "--ray-address", cluster)]
    kept: dict[str, int] = {}
    for parts in (2, 30):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while process.poll() is None and len(list(output.glob("part-*.parquet"))) < parts:
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert not (output / "_manifest.json").exists()
        kept = {path.name: path.stat().st_ino for path in output.glob("part-*.parquet")}
        assert len(kept) >= parts
        time.sleep(2)  # its actors are gone, and write nothing any more
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{output}: 1,559 of 2,000 rows answered, 156 with an error\n"
    assert kept.items() <= {p.name: p.stat().st_ino for p in output.glob("part-*.parquet")}.items()
    check(read(output), rt)
    assert not [path.name for path in output.glob(".*") if path.name != ".lock"]


def test_a_checkpoint_that_ray_would_ignore(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without files as input, and without a write, it starts again: silently, or with a warning."""
    context = ray.data.DataContext.get_current()
    config = CheckpointConfig(id_column="id", checkpoint_path=f"file://{tmp_path}/checkpoint")
    monkeypatch.setattr(context, "checkpoint_config", config)
    dataset = ray.data.from_items([{"id": 1, "text": "a"}])
    with pytest.raises(InputError, match="does not come from files"):
        bertrt.ray.map(dataset, EMBEDDER)
    files = ray.data.read_parquet(str(write(tmp_path / "in.parquet", 3)))
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="Checkpointing will be"):
        bertrt.ray.map(files, EMBEDDER).take_all()
    with pytest.raises(InputError, match="the checkpoint's id_column is 'id', and answers have"):
        bertrt.ray.map(dataset, EMBEDDER, id_column="text")


LOSE_A_NODE = """
import json, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from bertrt.cli import main

arguments = json.loads(sys.argv[1])
output = Path(arguments[arguments.index("--output") + 1])
options = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
second = cluster.add_node(**options)
ray.init(address=cluster.address, log_to_driver=False)

def lose() -> None:
    while len(list(output.glob("part-*.parquet"))) < 8:
        time.sleep(0.01)
    assert len(ray.nodes()) == 2
    cluster.remove_node(second, allow_graceful=False)
    print("lost", len(list(output.glob("part-*.parquet"))), flush=True)

thread = threading.Thread(target=lose)
thread.start()
status = main(arguments)
thread.join()
ray.shutdown()
cluster.shutdown()
sys.exit(status)
"""


def test_a_node_that_is_lost(rt: bertrt.Runtime, tmp_path: Path) -> None:
    """Two nodes of one CPU each, on this machine: one dies, and the other does its parts again."""
    source, output = write(tmp_path / "in.parquet", 2000), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOSE_A_NODE, json.dumps(command(source, output))],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lost = int(done.stdout.split()[1])
    assert 8 <= lost < 100
    check(read(output), rt)
