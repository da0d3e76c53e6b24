"""Workers and pools: the protocol over a pipe, with contenders made for the test."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig, worker_environment
from benchmarks.harness.worker_pool import WorkerPool, prepare_once, split_by_memory, worker_pool
from benchmarks.harness.worker_process import RefusedError, WorkerProcess

ROOT = Path(__file__).resolve().parents[2]
MODEL = Model(
    name="fake", folder="none", weights="random", cls=2, sep=3, mask=4, pad=0, vocabulary=1500
)


def loaded(worker: WorkerProcess, folder: Path) -> WorkerProcess:
    folder.mkdir(exist_ok=True)
    arguments: dict[str, Any] = {"model": MODEL, "task": "embeddings", "folder": str(folder)}
    worker.call("prepare", **arguments)
    worker.call("load", **arguments, threads=2)
    return worker


def test_a_worker_describes_prepares_loads_and_answers(
    fake: Callable[..., str], config: BenchConfig, tmp_path: Path
) -> None:
    with WorkerProcess(fake("fine"), config) as worker:
        described = worker.call("describe")
        assert described["title"] == "fine"
        assert described["missing"] is None
        assert described["versions"] == {"numpy": np.__version__}
        loaded(worker, tmp_path / "folder")
        ids = np.arange(12).reshape(3, 4)
        answers = worker.call("run", inputs=(ids, ids, ids))
        assert answers.dtype == np.float32
        np.testing.assert_array_equal(answers[:, 0], ids.sum(axis=1))
        np.testing.assert_array_equal(worker.call("answer", texts=["one", "three"]), [[3], [5]])
        times = worker.call("time_run", inputs=(ids, ids, ids), seconds=0.0, least=4)
        assert len(times) == 4
        assert min(times) >= 0
        memory = worker.call("memory")
        assert memory["peak"] >= memory["now"] > 0


def test_a_worker_finds_only_the_package_in_the_checkout(
    fake: Callable[..., str], config: BenchConfig
) -> None:
    name = fake("path", "def missing():\n    import sys\n    return '\\n'.join(sys.path)")
    with WorkerProcess(name, config) as worker:
        folders = [Path(entry).resolve() for entry in worker.call("describe")["missing"].split()]
    assert ROOT not in folders
    assert ROOT / "benchmarks" not in folders


def test_a_function_is_applied_to_the_loaded_model(
    fake: Callable[..., str], config: BenchConfig, tmp_path: Path
) -> None:
    name = fake("used", "def double(loaded, number):\n    return number * loaded.threads")
    double = sys.modules["benchmarks.contenders.fake_used"].double
    with WorkerProcess(name, config) as worker:
        loaded(worker, tmp_path / "folder")
        assert worker.call("apply", function=double, arguments={"number": 21}) == 42


def test_a_call_before_loading_is_refused_and_the_worker_continues(
    fake: Callable[..., str], config: BenchConfig
) -> None:
    with WorkerProcess(fake("early"), config) as worker:
        with pytest.raises(RefusedError, match="run failed: ValueError: no model is loaded"):
            worker.call("run", inputs=())
        assert worker.call("describe")["title"] == "early"


def test_a_crash_is_reported_as_the_reason(fake: Callable[..., str], config: BenchConfig) -> None:
    name = fake("crash", "def missing():\n    os._exit(11)")
    with (
        WorkerProcess(name, config) as worker,
        pytest.raises(RefusedError, match="the process ended in describe with status 11"),
    ):
        worker.call("describe")


def test_a_worker_that_takes_too_long_is_killed(
    fake: Callable[..., str], config: BenchConfig
) -> None:
    name = fake("slow", "def missing():\n    time.sleep(60)")
    with WorkerProcess(name, config) as worker:
        with pytest.raises(RefusedError, match="describe took longer than 1 s"):
            worker.call("describe", timeout=1)
        with pytest.raises(RefusedError, match="ended"):
            worker.call("describe")


def test_output_goes_to_the_log(
    fake: Callable[..., str], config: BenchConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    name = fake("loud", "def missing():\n    print('a loud library', flush=True)")
    with WorkerProcess(name, config) as worker:
        worker.call("describe")
    assert "loud" not in capfd.readouterr().out
    assert "a loud library" in (config.folder / "logs" / "loud.log").read_text()


def test_a_pool_has_workers_and_the_reasons_of_refused_contenders(
    fake: Callable[..., str], config: BenchConfig
) -> None:
    names = [
        fake("good"),
        fake("absent", "def missing():\n    return 'its package is not installed'"),
        fake("broken", "def load(*_):\n    raise RuntimeError('no such operator\\nand a stack')"),
        fake("other_task", "TASKS = ('fill-mask',)"),
        fake("also_good"),
    ]
    with worker_pool(config, MODEL, "embeddings", names) as pool:
        assert list(pool.workers) == ["good", "also_good"]
        assert pool.refused == {
            "absent": "its package is not installed",
            "broken": "load failed: RuntimeError: no such operator",
            "other_task": "other_task does not support embeddings",
        }
        processes = [worker._process for worker in pool.workers.values()]
    assert all(process.poll() is not None for process in processes)


def test_a_worker_that_dies_is_dismissed_and_the_others_stay(
    fake: Callable[..., str], config: BenchConfig
) -> None:
    body = "class Dying(Fake):\n    def answer(self, texts):\n        os._exit(3)\n"
    names = [fake("stays"), fake("dies", body + "def load(*_):\n    return Dying(1)")]
    with worker_pool(config, MODEL, "embeddings", names) as pool:
        with pytest.raises(RefusedError):
            pool.call("dies", "answer", texts=["a"])
        assert list(pool.workers) == ["stays"]
        assert "status 3" in pool.refused["dies"]
        with pytest.raises(RefusedError, match="status 3"):
            pool.call("dies", "answer", texts=["a"])
        assert pool.call("stays", "answer", texts=["a"]).tolist() == [[1]]


def test_exports_are_made_once_for_each_set_of_versions(
    fake: Callable[..., str], config: BenchConfig
) -> None:
    name = fake("once")
    folder = prepare_once(config, name, MODEL, "embeddings")
    (folder / "made").write_text("kept")
    assert prepare_once(config, name, MODEL, "embeddings") == folder
    assert (folder / "made").read_text() == "kept"
    (folder / "prepared.json").write_text('{"numpy": "1.0"}')
    prepare_once(config, name, MODEL, "embeddings")
    assert (folder / "made").read_text() == "fake"


def test_a_failed_export_is_not_reused(fake: Callable[..., str], config: BenchConfig) -> None:
    name = fake("half", "def prepare(model, task, folder):\n    (folder / 'a').touch(); 1 / 0")
    for _ in range(2):
        with pytest.raises(RefusedError, match="prepare failed: ZeroDivisionError"):
            prepare_once(config, name, MODEL, "embeddings")


def test_the_environment_sets_threads_and_disables_the_network(config: BenchConfig) -> None:
    environment = worker_environment(config)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "2"
    assert environment["ORT_DISABLE_TELEMETRY"] == environment["HF_HUB_OFFLINE"] == "1"
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert environment["PATH"] == os.environ["PATH"]


def test_groups_fit_into_memory_and_contain_the_baseline() -> None:
    names = ["eager", *(f"peer{i}" for i in range(9)), "bertrt"]
    assert split_by_memory(names, 100_000_000, available_bytes=64 << 30) == [names]
    found = split_by_memory(names, 1_300_000_000, available_bytes=20 << 30)
    assert len(found) > 1
    assert all({"eager", "bertrt"} <= set(group) for group in found)
    assert sorted({name for group in found for name in group}) == sorted(names)
    assert all(len(group) <= 4 for group in found)
    # A GPU's memory holds fewer workers than this machine's.
    small = split_by_memory(names, 1_300_000_000, available_bytes=512 << 30, gpu_bytes=24 << 30)
    assert max(map(len, small)) == 4
    assert all({"eager", "bertrt"} <= set(group) for group in small)
    assert split_by_memory(names, 1_300_000_000, 512 << 30, 80 << 30) == [names]
    # However little memory there is, at least one peer is compared.
    assert all(len(group) == 3 for group in split_by_memory(names, 10**10, available_bytes=1 << 30))


def test_a_call_to_an_empty_pool_is_refused() -> None:
    with pytest.raises(RefusedError, match="not in this pool"):
        WorkerPool().call("missing", "describe")
