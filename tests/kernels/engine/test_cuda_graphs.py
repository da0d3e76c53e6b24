"""Test the order in which CUDA streams wait for each other, with a fake `torch.cuda`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

CPU = torch.device("cpu")


class FakeStream:
    """A stream that logs what it waits for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self._log = name, log

    def wait_stream(self, other: "FakeStream") -> None:
        self._log.append(f"{self.name} waits for {other.name}")


class FakeCuda:
    """The part of `torch.cuda` that CudaGraphRunner uses. Replays do nothing but log."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.current = FakeStream("caller", self.log)

    def Stream(self, _: Any) -> FakeStream:
        return FakeStream("session", self.log)

    def current_stream(self) -> FakeStream:
        return self.current

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        previous, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = previous

    @contextmanager
    def device(self, _: Any) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, _: Any, **options: Any) -> Iterator[None]:
        self.log.append("capture")
        with self.stream(options["stream"]):
            yield

    def graph_pool_handle(self) -> None:
        return None

    def CUDAGraph(self) -> "FakeCuda":
        return self

    def replay(self) -> None:
        self.log.append(f"replay on {self.current.name}")

    def record(self, what: str) -> None:
        self.log.append(f"{what} on {self.current.name}")


class FakeProgram:
    """A program that launches nothing; its results have 64 rows."""

    def __init__(self, plan: Plan, cuda: FakeCuda) -> None:
        self.plan, self._cuda = plan, cuda

    def launch(self, uploads: Any, max_length: int) -> dict[str, torch.Tensor]:
        self._cuda.record("launch")
        return {name: torch.zeros(64, 2) for name in self.plan.device_results}


@pytest.fixture
def run(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[..., Any], FakeCuda, list[str]]:
    cuda = FakeCuda()
    monkeypatch.setattr(torch, "cuda", cuda)
    plan = make_plan(read_graph(tiny_path)[0], ["logits"])
    arrays = {name: np.arange(4, dtype=np.int32) for name in plan.uploads}
    runner = CudaGraphRunner(CPU)

    def run_once(*, on_device: bool, failing: bool = False) -> Any:
        uploads: Any = upload(arrays, CPU) if on_device else arrays
        program: Any = FakeProgram(plan, cuda)
        if failing:
            program.launch = None

        def consume(results: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            cuda.record("consume")
            return results

        return runner.run(
            program, choose_bucket(plan, arrays), uploads, consume, on_device=on_device
        )

    return run_once, cuda, cuda.log


def test_runs_on_the_host_never_wait(run: Any) -> None:
    run_once, _, log = run
    run_once(on_device=False)
    assert log == ["launch on session", "consume on session", "capture", "launch on session"]
    log.clear()
    run_once(on_device=False)
    assert log == ["replay on session", "consume on session"]


def test_runs_on_the_device_follow_the_callers_stream(run: Any) -> None:
    run_once, cuda, log = run
    wait_for_caller, caller_waits = "session waits for caller", "caller waits for session"
    results = run_once(on_device=True)
    captured = ["capture", "launch on session"]
    assert log == [
        wait_for_caller,
        "launch on session",
        caller_waits,
        "consume on caller",
        wait_for_caller,
        *captured,
    ]
    log.clear()
    again = run_once(on_device=True)
    # The last wait keeps the next replay from overwriting results that are being consumed.
    assert log == [
        wait_for_caller,
        "replay on session",
        caller_waits,
        "consume on caller",
        wait_for_caller,
    ]
    assert {len(tensor) for tensor in (*results.values(), *again.values())} == {4}
    assert cuda.current.name == "caller"


def test_a_failed_run_keeps_the_order(run: Any) -> None:
    run_once, _, log = run
    with pytest.raises(TypeError):
        run_once(on_device=True, failing=True)
    assert log == ["session waits for caller", "caller waits for session"]
