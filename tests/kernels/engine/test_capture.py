"""Test the capture of a CUDA graph, with a fake `torch.cuda`."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from bertrt.kernels.engine.capture import capture


def test_a_capture_runs_on_its_stream(fake_cuda: Any) -> None:
    def launch() -> str:
        fake_cuda.record("launch")
        assert torch.is_inference_mode_enabled()
        return "results"

    graph, results = capture(launch, fake_cuda.Stream(0), 7)
    assert results == "results"
    assert fake_cuda.log == [
        "capture into pool 7 on session",
        "launch on session",
        "captured on session",
    ]
    graph.replay()
    assert fake_cuda.log[-1] == "replay on caller"


@pytest.mark.parametrize("step", ["capture", "launch", "captured"])
def test_a_failed_capture_is_ended(fake_cuda: Any, step: str) -> None:
    """The current stream is restored, and the first error is raised."""
    # Ending a capture that is invalid is an error too.
    fake_cuda.failing = [step, "captured", "reset"]
    with pytest.raises(RuntimeError, match=f"^{step} "):
        capture(lambda: fake_cuda.record("launch"), fake_cuda.Stream(0), 1)
    assert fake_cuda.log[-2:] == ["captured on session", "reset on session"]
    assert fake_cuda.current_stream().name == "caller"
    fake_cuda.failing = []
    capture(lambda: fake_cuda.record("launch"), fake_cuda.Stream(0), 2)


@pytest.mark.parametrize("failing", [[], ["captured"]])
def test_one_capture_at_a_time(fake_cuda: Any, failing: list[str]) -> None:
    fake_cuda.failing = failing
    fake_cuda.seconds = 0.005

    def run(index: int) -> bool:
        try:
            capture(lambda: None, fake_cuda.Stream(0), index)
        except RuntimeError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(8))) == [not failing] * 8
    assert fake_cuda.most_captures == 1
