"""Two threads for all that ONNX Runtime does on a GPU in this process, one at a time.

ONNX Runtime keeps CUDA graphs, and the handles of cuBLAS and cuDNN, for each thread that ever ran
a session: sixteen threads would capture each graph sixteen times, and threads that come and go
would leave theirs behind. And a capture fails when another thread allocates memory on the GPU
meanwhile, for this session or for another.

The main thread runs things itself, since handing them over takes some 0.1 ms; the others have
them run by a thread of this module.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["on_gpu_thread"]

Result = TypeVar("Result")


def on_gpu_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function when nothing else is on the GPU, and return its result.

    Raises what the function raises. The function must not call this again: it would wait for its
    own end.
    """
    if threading.current_thread() is threading.main_thread():
        return _in_turn(function, arguments)
    return _thread().submit(_in_turn, function, arguments).result()


def _in_turn(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    with _TURN:
        return function(*arguments)


def _thread() -> ThreadPoolExecutor:
    global _POOL
    with _LOCK:
        if _POOL is None:
            _POOL = ThreadPoolExecutor(1, thread_name_prefix="bertrt-gpu")
        return _POOL


def _forget_the_parents_thread() -> None:
    """A forked child has no thread but its own, which holds no lock."""
    global _POOL, _LOCK, _TURN
    _POOL, _LOCK, _TURN = None, threading.Lock(), threading.Lock()


_POOL: ThreadPoolExecutor | None = None
_LOCK, _TURN = threading.Lock(), threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_thread)
