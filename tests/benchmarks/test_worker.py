"""Workers: the protocol over a pipe, with contenders made for the test."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import Bench, worker_environment
from crew import Crew, crew, groups, prepared
from models import Model
from process import Process, Refused

MODEL = Model(
    name="fake", folder="none", weights="random", cls=2, sep=3, mask=4, pad=0, vocabulary=1500
)


def loaded(worker: Process, folder: Path) -> Process:
    folder.mkdir(exist_ok=True)
    arguments: dict[str, Any] = {"model": vars(MODEL), "task": "embeddings", "folder": str(folder)}
    worker.call("prepare", **arguments)
    worker.call("load", **arguments, threads=2)
    return worker


def test_a_worker_describes_prepares_loads_and_answers(
    fake: Callable[..., str], bench: Bench, tmp_path: Path
) -> None:
    with Process(fake("fine"), bench) as worker:
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


def test_a_function_of_another_module_gets_the_contender(
    fake: Callable[..., str], bench: Bench, tmp_path: Path
) -> None:
    name = fake("used", "def double(contender, number):\n    return number * contender.threads")
    with Process(name, bench) as worker:
        loaded(worker, tmp_path / "folder")
        arguments = {"module": "contenders.used", "function": "double", "arguments": {"number": 21}}
        assert worker.call("use", **arguments) == 42


def test_asking_before_loading_is_refused_and_the_worker_lives_on(
    fake: Callable[..., str], bench: Bench
) -> None:
    with Process(fake("early"), bench) as worker:
        with pytest.raises(Refused, match="run failed: ValueError: no model is loaded"):
            worker.call("run", inputs=())
        assert worker.call("describe")["title"] == "early"


def test_a_crash_is_a_reason(fake: Callable[..., str], bench: Bench) -> None:
    name = fake("crash", "def missing():\n    os._exit(11)")
    with (
        Process(name, bench) as worker,
        pytest.raises(Refused, match="the process ended in describe with status 11"),
    ):
        worker.call("describe")


def test_a_worker_that_takes_too_long_is_ended(fake: Callable[..., str], bench: Bench) -> None:
    name = fake("slow", "def missing():\n    time.sleep(60)")
    with Process(name, bench) as worker:
        with pytest.raises(Refused, match="describe took longer than 1 s"):
            worker.call("describe", timeout=1)
        with pytest.raises(Refused, match="ended"):
            worker.call("describe")


def test_output_goes_to_the_log_and_not_to_the_table(
    fake: Callable[..., str], bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    name = fake("loud", "def missing():\n    print('a loud library', flush=True)")
    with Process(name, bench) as worker:
        worker.call("describe")
    assert "loud" not in capfd.readouterr().out
    assert "a loud library" in (bench.folder / "logs" / "loud.log").read_text()


def test_a_crew_has_those_who_can_and_the_reasons_of_those_who_cannot(
    fake: Callable[..., str], bench: Bench
) -> None:
    names = [
        fake("good"),
        fake("absent", "def missing():\n    return 'its package is not installed'"),
        fake("broken", "def load(*_):\n    raise RuntimeError('no such operator\\nand a stack')"),
        fake("other_task", "TASKS = ('fill-mask',)"),
        fake("also_good"),
    ]
    with crew(bench, MODEL, "embeddings", names) as running:
        assert list(running.workers) == ["good", "also_good"]
        assert running.refused == {
            "absent": "its package is not installed",
            "broken": "load failed: RuntimeError: no such operator",
            "other_task": "other_task is not made for embeddings",
        }
        processes = [worker._process for worker in running.workers.values()]
    assert all(process.poll() is not None for process in processes)


def test_a_member_that_dies_leaves_the_crew_and_the_others_stay(
    fake: Callable[..., str], bench: Bench
) -> None:
    body = "class Dying(Fake):\n    def answer(self, texts):\n        os._exit(3)\n"
    names = [fake("stays"), fake("dies", body + "def load(*_):\n    return Dying(1)")]
    with crew(bench, MODEL, "embeddings", names) as running:
        with pytest.raises(Refused):
            running.call("dies", "answer", texts=["a"])
        assert list(running.workers) == ["stays"]
        assert "status 3" in running.refused["dies"]
        with pytest.raises(Refused, match="status 3"):
            running.call("dies", "answer", texts=["a"])
        assert running.call("stays", "answer", texts=["a"]).tolist() == [[1]]


def test_exports_are_made_once_and_again_for_other_versions(
    fake: Callable[..., str], bench: Bench
) -> None:
    name = fake("once")
    folder = prepared(bench, name, MODEL, "embeddings")
    (folder / "made").write_text("kept")
    assert prepared(bench, name, MODEL, "embeddings") == folder
    assert (folder / "made").read_text() == "kept"
    (folder / "prepared.json").write_text('{"numpy": "1.0"}')
    prepared(bench, name, MODEL, "embeddings")
    assert (folder / "made").read_text() == "fake"


def test_an_export_that_fails_leaves_nothing_that_looks_ready(
    fake: Callable[..., str], bench: Bench
) -> None:
    name = fake("half", "def prepare(model, task, folder):\n    (folder / 'a').touch(); 1 / 0")
    for _ in range(2):
        with pytest.raises(Refused, match="prepare failed: ZeroDivisionError"):
            prepared(bench, name, MODEL, "embeddings")


def test_workers_have_the_threads_of_the_run_and_no_network(bench: Bench) -> None:
    environment = worker_environment(bench)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "2"
    assert environment["ORT_DISABLE_TELEMETRY"] == environment["HF_HUB_OFFLINE"] == "1"
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert environment["PATH"] == os.environ["PATH"]


def test_groups_fit_into_memory_and_each_has_the_baseline() -> None:
    names = ["eager", *(f"peer{i}" for i in range(9)), "bertrt"]
    assert groups(names, 100_000_000, available_bytes=64 << 30) == [names]
    found = groups(names, 1_300_000_000, available_bytes=20 << 30)
    assert len(found) > 1
    assert all({"eager", "bertrt"} <= set(group) for group in found)
    assert sorted({name for group in found for name in group}) == sorted(names)
    assert all(len(group) <= 4 for group in found)
    # A GPU's memory holds fewer than this machine's.
    small = groups(names, 1_300_000_000, available_bytes=512 << 30, gpu_bytes=24 << 30)
    assert max(map(len, small)) == 4
    assert all({"eager", "bertrt"} <= set(group) for group in small)
    assert groups(names, 1_300_000_000, 512 << 30, 80 << 30) == [names]
    # However little there is, one peer at a time is compared.
    assert all(len(group) == 3 for group in groups(names, 10**10, available_bytes=1 << 30))


def test_an_empty_crew_is_not_an_error() -> None:
    with pytest.raises(Refused, match="not in this crew"):
        Crew().call("nobody", "describe")
