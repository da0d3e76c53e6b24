"""Capture CUDA graphs, one at a time in a process."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import torch

__all__ = ["capture"]

Result = TypeVar("Result")

# PyTorch allows one capture at a time in a process, and each session captures in its own threads.
_ONE_AT_A_TIME = threading.Lock()
# Graphs whose capture failed. PyTorch's allocator may go on asking them what they capture, so they
# must not be freed.
_FAILED: list[Any] = []


def capture(launch: Callable[[], Result], stream: Any, pool: Any) -> tuple[Any, Result]:
    """Capture what `launch` puts on a stream; nothing of it runs before the graph is replayed.

    `torch.cuda.graph` also waits for the whole GPU and empties the allocator's cache. Both cost
    time, neither is needed (on one stream, memory is reused in the stream's order), and both fail
    and spoil the capture if another thread captures. A capture waits until other sessions' end.

    Args:
        launch: has run on this stream before, so that kernels are compiled and cuBLAS has its
            workspace.
        stream: not the default stream.
        pool: the memory to allocate from, of `torch.cuda.graph_pool_handle`. All graphs of a pool
            have to be captured and replayed on one stream.

    Returns the graph and the result of `launch`.

    Raises what the capture raises, after ending it. The stream can be used as before, but the pool
    cannot: PyTorch up to 2.12 may count it as being captured from then on.
    """
    graph = torch.cuda.CUDAGraph()
    with _ONE_AT_A_TIME, torch.cuda.stream(stream), torch.inference_mode():
        try:
            # "thread_local": what other threads do on the GPU does not invalidate this capture.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            result = launch()
            graph.capture_end()
        except BaseException:
            _abandon(graph)
            raise
    return graph, result


def _abandon(graph: Any) -> None:
    """End a capture that failed, so that its stream takes launches again."""
    for end in (graph.capture_end, graph.reset):
        with suppress(Exception):  # the first error says why it failed
            end()
    _FAILED.append(graph)
