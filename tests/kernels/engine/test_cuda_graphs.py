"""Test the order of streams, and captures that fail, with a fake `torch.cuda`."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.kernels.engine.buckets import choose_bucket
from bertrt.kernels.engine.cuda_graphs import CudaGraphRunner
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.plan import Plan, make_plan
from bertrt.kernels.engine.transfer import upload
from bertrt.kernels.engine.upload_buffer import UploadBuffer

CPU = torch.device("cpu")


class FakeProgram:
    """A program that launches nothing; its results have 64 rows."""

    def __init__(self, plan: Plan, cuda: Any) -> None:
        self.plan, self._cuda = plan, cuda

    def launch(self, uploads: Any, max_length: int) -> dict[str, torch.Tensor]:
        self._cuda.record("launch")
        return {name: torch.zeros(64, 2) for name in self.plan.device_results}


@pytest.fixture
def plan(tiny_path: Path) -> Plan:
    return make_plan(read_graph(tiny_path)[0], ["logits"])


@pytest.fixture
def runner(fake_cuda: Any) -> CudaGraphRunner:
    return CudaGraphRunner(CPU)


@pytest.fixture
def run(plan: Plan, runner: CudaGraphRunner, fake_cuda: Any) -> Callable[..., Any]:
    """Run a program of `rows` tokens, each in a sequence of its own."""
    program: Any = FakeProgram(plan, fake_cuda)

    def run_once(*, on_device: bool = False, rows: int = 4) -> Any:
        arrays = {name: np.arange(rows, dtype=np.int32) for name in plan.uploads}
        uploads: Any = upload(arrays, CPU) if on_device else arrays

        def consume(results: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            fake_cuda.record("consume")
            return results

        return runner.run(
            program, choose_bucket(plan, arrays), uploads, consume, on_device=on_device
        )

    return run_once


CAPTURED = ["capture into pool 1 on session", "launch on session", "captured on session"]


def test_runs_on_the_host_never_wait(run: Any, fake_cuda: Any) -> None:
    run()
    assert fake_cuda.log == ["launch on session", "consume on session", *CAPTURED]
    fake_cuda.log.clear()
    run()
    assert fake_cuda.log == ["replay on session", "consume on session"]


@pytest.mark.parametrize("failing", ["replay", "consume"])
@pytest.mark.parametrize("device_index", [None, 1])
def test_a_replay_restores_the_callers_stream(
    run: Any, fake_cuda: Any, failing: str, device_index: int | None
) -> None:
    """Also with an error, and if another device is the current one."""
    fake_cuda.device_index = device_index
    run()
    fake_cuda.log.clear()
    run()
    assert fake_cuda.log == ["replay on session", "consume on session"]
    assert fake_cuda.current_stream().name == "caller"
    fake_cuda.failing = [failing]
    with pytest.raises(RuntimeError, match=f"{failing} failed"):
        run()
    assert fake_cuda.current_stream().name == "caller"


def test_an_upload_buffer_can_be_filled_in_and_outside_of_inference_mode(
    plan: Plan,
) -> None:
    buffer = UploadBuffer(plan, choose_bucket(plan, {n: np.arange(4) for n in plan.uploads}), CPU)
    for first in (1, 2):
        arrays = {name: np.arange(first, first + 4, dtype=np.int32) for name in plan.uploads}
        uploads = upload(arrays, CPU)
        buffer.fill(arrays, on_device=False)
        buffer.fill(uploads, on_device=True)
        with torch.inference_mode():
            buffer.fill(arrays, on_device=False)
            buffer.fill(uploads, on_device=True)
        assert [int(tensor[0]) for tensor in buffer.tensors.values()] == [first] * len(arrays)


def test_runs_on_the_device_follow_the_callers_stream(run: Any, fake_cuda: Any) -> None:
    wait_for_caller, caller_waits = "session waits for caller", "caller waits for session"
    results = run(on_device=True)
    assert fake_cuda.log == [
        wait_for_caller,
        "launch on session",
        caller_waits,
        "consume on caller",
        wait_for_caller,
        *CAPTURED,
    ]
    fake_cuda.log.clear()
    again = run(on_device=True)
    # The last wait keeps the next replay from overwriting results that are being consumed.
    assert fake_cuda.log == [
        wait_for_caller,
        "replay on session",
        caller_waits,
        "consume on caller",
        wait_for_caller,
    ]
    assert {len(tensor) for tensor in (*results.values(), *again.values())} == {4}
    assert fake_cuda.current_stream().name == "caller"


def test_a_failed_run_keeps_the_order(run: Any, fake_cuda: Any) -> None:
    fake_cuda.failing = ["launch"]
    with pytest.raises(RuntimeError, match="launch failed"):
        run(on_device=True)
    assert fake_cuda.log == [
        "session waits for caller",
        "launch on session",
        "caller waits for session",
    ]


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("step", ["capture", "captured"])
def test_a_failed_capture_keeps_the_answer(
    run: Any,
    runner: CudaGraphRunner,
    fake_cuda: Any,
    caplog: pytest.LogCaptureFixture,
    step: str,
    on_device: bool,
) -> None:
    assert runner.info() == {"cuda_graphs": True}
    fake_cuda.failing = [step]
    with caplog.at_level(logging.WARNING):
        assert {len(tensor) for tensor in run(on_device=on_device).values()} == {4}
        fake_cuda.log.clear()
        for _ in range(2):  # launched, and not captured again
            assert {len(tensor) for tensor in run(on_device=on_device).values()} == {4}
        run(on_device=on_device, rows=20)
    steps = [entry for entry in fake_cuda.log if "waits" not in entry]
    consumer = "caller" if on_device else "session"
    assert steps[:4] == ["launch on session", f"consume on {consumer}"] * 2
    # Another size is tried, from a new pool.
    assert "capture into pool 2 on session" in steps
    assert len(runner) == 0
    assert runner.info()["cuda_graphs"].startswith("not for all sizes: 2 failed (RuntimeError: ")
    assert "manual" not in runner.info()["cuda_graphs"]
    (record,) = caplog.records
    assert "could not be captured" in record.getMessage()
    assert f"RuntimeError: {step}" in record.getMessage()


def test_other_sizes_are_captured_after_a_failure(
    run: Any, runner: CudaGraphRunner, fake_cuda: Any
) -> None:
    fake_cuda.failing = ["captured"]
    run()
    fake_cuda.failing = []
    run(rows=20)
    fake_cuda.log.clear()
    run(rows=20)
    run()
    assert fake_cuda.log == [
        *("replay on session", "consume on session"),
        *("launch on session", "consume on session"),
    ]
    assert len(runner) == 1
    assert runner.info()["cuda_graphs"].startswith("not for all sizes: 1 failed")


def test_two_sessions_in_two_threads(fake_cuda: Any, plan: Plan) -> None:
    """Each session has its own lock; captures take turns all the same, and answers are right."""
    fake_cuda.seconds = 0.002
    program: Any = FakeProgram(plan, fake_cuda)
    runners = [CudaGraphRunner(CPU), CudaGraphRunner(CPU)]

    def run(runner: CudaGraphRunner) -> list[int]:
        lengths = []
        for rows in (4, 12, 20, 28, 36) * 2:
            arrays = {name: np.arange(rows, dtype=np.int32) for name in plan.uploads}
            bucket = choose_bucket(plan, arrays)
            results = runner.run(program, bucket, arrays, dict, on_device=False)
            lengths += [len(tensor) for tensor in results.values()]
        return lengths

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, runners)) == [[4, 12, 20, 28, 36] * 2] * 2
    assert fake_cuda.most_captures == 1
    for runner in runners:
        assert len(runner) == 5
        assert runner.info() == {"cuda_graphs": True}
