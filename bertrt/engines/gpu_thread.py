"""Run everything that ONNX Runtime does on a GPU in at most two threads, one call at a time.

ONNX Runtime keeps CUDA graphs and the handles of cuBLAS and cuDNN for each thread that ever ran a
session: sixteen threads would capture each graph sixteen times, and threads that end would leave
theirs behind. A capture also fails when another thread allocates GPU memory meanwhile, for this
session or for another.

The main thread makes its calls itself, because handing a call over takes about 0.1 ms. All other
threads hand theirs to one thread of this module.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from bertrt.engines.fork_safe import after_fork_in_child

__all__ = ["on_gpu_thread"]

Result = TypeVar("Result")


def on_gpu_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function while nothing else uses the GPU, and return its result.

    Raises what the function raises. The function must not call `on_gpu_thread` itself: it would
    wait for its own end.
    """
    if threading.current_thread() is threading.main_thread():
        return _in_turn(function, arguments)
    return _gpu_thread().submit(_in_turn, function, arguments).result()


def _in_turn(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    with _turn:
        return function(*arguments)


def _gpu_thread() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(1, thread_name_prefix="bertrt-gpu")
        return _pool


def _reset() -> None:
    """Forget the parent's thread and locks in a forked child."""
    global _pool, _pool_lock, _turn
    _pool, _pool_lock, _turn = None, threading.Lock(), threading.Lock()


_pool: ThreadPoolExecutor | None = None
_pool_lock, _turn = threading.Lock(), threading.Lock()
after_fork_in_child(_reset)
