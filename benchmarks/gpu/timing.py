"""Time kernels inside CUDA graphs, so that no work of the host is counted.

To launch a small kernel takes the host longer than the GPU needs to run it. So calls are captured,
each after a write that leaves nothing in the GPU's cache, and the graph is replayed in turn with
one of the writes alone; the difference is what the calls took.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from triton import knobs

__all__ = [
    "capture",
    "choose_calls",
    "choose_replays",
    "kernel_device",
    "median_us",
    "net_us",
    "replay_us",
]

# How long a graph of calls should take, and its most calls.
_GRAPH_US = 2000.0
_MOST_CALLS = 20
_LEAST_REPLAYS, _MOST_REPLAYS = 5, 100
# What CUDA's events can tell apart.
_RESOLUTION_US = 0.5


def kernel_device() -> torch.device:
    """Return the device that kernels run on: the GPU, or the CPU in Triton's interpreter."""
    return torch.device("cpu" if knobs.runtime.interpret else "cuda")


@torch.inference_mode()
def median_us(run: Callable[[], Any], milliseconds: float = 100) -> float:
    """Return the median time of `run` in microseconds, with its data not in the GPU's cache.

    `run` launches kernels on the current stream and does not wait for them. Replays take about
    this many milliseconds.
    """
    memory = _memory_to_write()

    def run_cold() -> None:
        memory.zero_()
        run()

    run_cold()  # compiles
    calls = choose_calls(_call_us(run_cold))
    graphs = [capture(run_cold, calls), _writes_alone(calls)]
    both_us = sum(times[0] for times in replay_us(graphs, 1))
    cold, writes = replay_us(graphs, choose_replays(both_us, milliseconds))
    return net_us(cold, writes, calls)


def choose_calls(call_us: float) -> int:
    """Return how many calls of this length to capture in a graph."""
    return max(1, min(_MOST_CALLS, int(_GRAPH_US / max(call_us, _RESOLUTION_US))))


def choose_replays(replay_us: float, milliseconds: float) -> int:
    """Return how many replays of this length to time in about so many milliseconds."""
    possible = int(1e3 * milliseconds / max(replay_us, _RESOLUTION_US))
    return max(_LEAST_REPLAYS, min(_MOST_REPLAYS, possible))


def net_us(cold: Sequence[float], writes: Sequence[float], calls: int) -> float:
    """Return the median microseconds of a call.

    Args:
        cold: the times of graphs with `calls` calls, each after a write.
        writes: the times of the same writes alone, each measured just after its pair in `cold`, so
            that both ran at about the same clock rate.
        calls: the calls in a graph.

    Returns at least what the clock resolves: less is noise.
    """
    whole = median(both - alone for both, alone in zip(cold, writes, strict=True))
    return max(whole, _RESOLUTION_US) / calls


def capture(run: Callable[[], Any], calls: int = 1) -> torch.cuda.CUDAGraph:
    """Capture calls of `run` in a CUDA graph, after one that is launched."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            run()
    return graph


def replay_us(graphs: Sequence[torch.cuda.CUDAGraph], count: int) -> list[list[float]]:
    """Replay graphs in turn, `count` times each, and return the microseconds of every replay."""
    for graph in graphs:
        graph.replay()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count * len(graphs) + 1)]
    events[0].record()
    for index, event in enumerate(events[1:]):
        graphs[index % len(graphs)].replay()
        event.record()
    events[-1].synchronize()
    times = [1e3 * begin.elapsed_time(end) for begin, end in pairwise(events)]
    return [times[first :: len(graphs)] for first in range(len(graphs))]


def _call_us(run: Callable[[], Any]) -> float:
    """Return the microseconds of one call, the host's part included."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(1e3 * begin.elapsed_time(end))


@lru_cache
def _memory_to_write() -> torch.Tensor:
    """Return twice as much memory as the cache has: once it is written, it is all that is there."""
    size = 2 * torch.cuda.get_device_properties().L2_cache_size
    return torch.empty(size, dtype=torch.int8, device=kernel_device())


@lru_cache(maxsize=_MOST_CALLS)
def _writes_alone(calls: int) -> torch.cuda.CUDAGraph:
    return capture(_memory_to_write().zero_, calls)
