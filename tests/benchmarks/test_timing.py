"""Timing in CUDA graphs: the arithmetic, and the order of what is captured and replayed."""

import pytest
import torch

from benchmarks.gpu import timing
from benchmarks.gpu.visit import fake_cuda


@pytest.mark.parametrize(
    ("call_us", "calls"), [(0.0, 20), (60.0, 20), (101.0, 19), (1000.0, 2), (5000.0, 1)]
)
def test_short_calls_share_a_graph(call_us: float, calls: int) -> None:
    assert timing.choose_calls(call_us) == calls


@pytest.mark.parametrize(
    ("replay_us", "milliseconds", "replays"),
    [(1000.0, 10, 10), (1000.0, 1, 5), (10.0, 100, 100), (0.0, 1, 100)],
)
def test_replays_fill_the_time_within_bounds(
    replay_us: float, milliseconds: float, replays: int
) -> None:
    assert timing.choose_replays(replay_us, milliseconds) == replays


def test_the_writes_are_subtracted_pair_by_pair() -> None:
    # The clock rate drops in the middle: medians of each would differ by 80.
    cold, writes = [110.0, 111.0, 210.0, 209.0, 211.0], [70.0, 71.0, 130.0, 169.0, 131.0]
    assert timing.net_us(cold, writes, 4) == 10.0


def test_noise_is_not_a_time() -> None:
    assert timing.net_us([50.0, 50.0, 50.0], [50.0, 60.0, 70.0], 5) == 0.1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins of a dry run in the place of `torch.cuda`; only calls take time."""
    for name, stand_in in fake_cuda.stand_ins().items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(fake_cuda.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(fake_cuda.CLOCK, "replayed", 0.0)
    monkeypatch.setattr(timing, "kernel_device", lambda: torch.device("cpu"))
    timing._memory_to_write.cache_clear()
    timing._writes_alone.cache_clear()
    yield  # type: ignore[misc]
    timing._memory_to_write.cache_clear()
    timing._writes_alone.cache_clear()


@pytest.mark.usefixtures("cuda")
def test_a_call_is_timed_without_the_write_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = torch.Tensor.zero_

    def write(tensor: torch.Tensor) -> torch.Tensor:
        fake_cuda.CLOCK.replayed += 40e-6
        return zero(tensor)

    def run() -> None:
        fake_cuda.CLOCK.replayed += 7e-6

    monkeypatch.setattr(torch.Tensor, "zero_", write)
    assert timing.median_us(run, 1) == pytest.approx(7.0)


@pytest.mark.usefixtures("cuda")
def test_graphs_are_replayed_in_turn() -> None:
    class Graph:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def replay(self) -> None:
            fake_cuda.CLOCK.replayed += self.seconds

    first, second = timing.replay_us([Graph(3e-6), Graph(5e-6)], 4)  # type: ignore[list-item]
    assert first == pytest.approx([3.0] * 4)
    assert second == pytest.approx([5.0] * 4)


@pytest.mark.usefixtures("cuda")
def test_memory_is_written_in_and_outside_of_inference_mode() -> None:
    with torch.inference_mode():
        timing.median_us(lambda: None, 1)
    timing.median_us(lambda: None, 1)


@pytest.mark.gpu
def test_the_host_is_not_counted(device: str) -> None:
    """A call that keeps the host busy takes no longer than its kernel."""
    x = torch.zeros(1024, device=device)

    def run() -> None:
        for _ in range(100):
            x.stride()
        x.add_(1)

    assert timing.median_us(run, 5) > 0
