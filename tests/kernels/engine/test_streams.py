"""In which order CUDA's streams wait for each other, by stand-ins that write it down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.kernels.engine.buckets import choose_bucket
from bertrt.kernels.engine.cuda_graphs import Captured
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.plan import Plan, make_plan
from bertrt.kernels.engine.transfer import upload

CPU = torch.device("cpu")


class Stream:
    """One that tells the diary what it waits for."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name, self._diary = name, diary

    def wait_stream(self, other: "Stream") -> None:
        self._diary.append(f"{self.name} waits for {other.name}")


class Cuda:
    """What `Captured` uses of `torch.cuda`; graphs replay nothing, results stay as they are."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.current = Stream("caller", self.diary)

    def Stream(self, _: Any) -> Stream:
        return Stream("session", self.diary)

    def current_stream(self) -> Stream:
        return self.current

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def device(self, _: Any) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, _: Any, **options: Any) -> Iterator[None]:
        self.diary.append("capture")
        with self.stream(options["stream"]):
            yield

    def graph_pool_handle(self) -> None:
        return None

    def CUDAGraph(self) -> "Cuda":
        return self

    def replay(self) -> None:
        self.diary.append(f"replay on {self.current.name}")

    def note(self, what: str) -> None:
        self.diary.append(f"{what} on {self.current.name}")


class Program:
    """Launches nothing, and has one result of a row for each token."""

    def __init__(self, plan: Plan, cuda: Cuda) -> None:
        self.plan, self._cuda = plan, cuda

    def launch(self, uploads: Any, longest: int) -> dict[str, torch.Tensor]:
        self._cuda.note("launch")
        return {name: torch.zeros(64, 2) for name in self.plan.results}


@pytest.fixture
def run(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[..., Any], Cuda, list[str]]:
    cuda = Cuda()
    monkeypatch.setattr(torch, "cuda", cuda)
    plan = make_plan(read_graph(tiny_path)[0], ["logits"])
    arrays = {name: np.arange(4, dtype=np.int32) for name in plan.uploads}
    strategy = Captured(CPU)

    def go(*, there: bool, failing: bool = False) -> Any:
        given: Any = upload(arrays, CPU) if there else arrays
        program: Any = Program(plan, cuda)
        if failing:
            program.launch = None

        def take(results: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            cuda.note("take")
            return results

        return strategy.run(program, choose_bucket(plan, arrays), given, take, there=there)

    return go, cuda, cuda.diary


def test_from_host_to_host_nothing_waits(run: Any) -> None:
    go, _, diary = run
    go(there=False)
    assert diary == ["launch on session", "take on session", "capture", "launch on session"]
    diary.clear()
    go(there=False)
    assert diary == ["replay on session", "take on session"]


def test_on_the_device_the_callers_stream_is_before_and_after(run: Any) -> None:
    go, cuda, diary = run
    before, after = "session waits for caller", "caller waits for session"
    results = go(there=True)
    captured = ["capture", "launch on session"]
    assert diary == [before, "launch on session", after, "take on caller", before, *captured]
    diary.clear()
    again = go(there=True)
    # The last wait keeps the next replay from results that are still being taken.
    assert diary == [before, "replay on session", after, "take on caller", before]
    assert {len(one) for one in (*results.values(), *again.values())} == {4}
    assert cuda.current.name == "caller"


def test_a_failure_keeps_the_order_too(run: Any) -> None:
    go, _, diary = run
    with pytest.raises(TypeError):
        go(there=True, failing=True)
    assert diary == ["session waits for caller", "caller waits for session"]
