"""Resources that are opened on first use, in each process, and never cross a fork or a pickle.

Neither threads nor CUDA survive a fork, so everything that owns them registers here.
"""

import os
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

from bertrt.errors import BertrtError

__all__ = ["ForkSafe", "after_fork_in_child", "check_cuda_after_fork", "mark_cuda_in_use"]

_LIVE: "weakref.WeakSet[ForkSafe]" = weakref.WeakSet()
# Resources of the parent process, kept so that their destructors never run in a child.
_ABANDONED: list[Any] = []


def after_fork_in_child(reset: Callable[[], None]) -> None:
    """Have every forked child call `reset` first; does nothing where there is no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=reset)


class ForkSafe(ABC):
    """A resource that is opened on first use, again in a forked child, and never pickled.

    A subclass names in `_settings` the attributes from which `_make` opens the resource; only
    these are pickled.
    """

    _settings: ClassVar[tuple[str, ...]]

    def __init__(self, check: Callable[[], None] | None = None) -> None:
        """Prepare to open the resource.

        Args:
            check: raises ArtifactError for files that must not be used. It runs in a thread of its
                own while the resource is opened, until it has passed once; the resource is not
                used before that.
        """
        self._check = check
        self._reset()

    def _reset(self) -> None:
        self._inner: Any = None
        self._closed = False
        self._lock = threading.Lock()
        _LIVE.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in (*self._settings, "_check")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def close(self) -> None:
        """Free the resource; a later use is an error."""
        with self._lock:
            self._inner = None
            self._closed = True

    def check_open(self) -> None:
        """Raise BertrtError after `close`."""
        if self._closed:
            raise BertrtError("this runtime is closed: load the artifact again")

    @abstractmethod
    def _make(self) -> Any:
        """Open the resource; called by one thread at a time."""

    def _open(self) -> Any:
        # Reading the attribute once keeps the resource alive if another thread closes it now.
        inner = self._inner
        if inner is not None:
            return inner
        with self._lock:
            self.check_open()
            if self._inner is None:
                self._inner = self._make_checked()
            return self._inner

    def _make_checked(self) -> Any:
        if self._check is None:
            return self._make()
        # Both release the interpreter's lock, so hashing a large file takes no extra time.
        with ThreadPoolExecutor(1) as pool:
            try:
                checked: Future[None] = pool.submit(self._check)
            except RuntimeError:
                # No thread can be started, as after the end of the main thread.
                self._check()
                checked = Future()
                checked.set_result(None)
            try:
                made = self._make()
            finally:
                # If opening failed too, a damaged file is the better explanation.
                checked.result()
        self._check = None
        return made


def _reset_resources() -> None:
    """Abandon the parent's resources in a forked child.

    They are kept, not freed: their destructors would join threads that do not exist in the child,
    or call a GPU driver that the child cannot use.
    """
    for resource in list(_LIVE):
        if resource._inner is not None:
            _ABANDONED.append(resource._inner)
        closed = resource._closed
        resource._reset()
        resource._closed = closed


_cuda_in_use = False
_cuda_used_by_parent = False


def mark_cuda_in_use() -> None:
    """Note that this process has used CUDA."""
    global _cuda_in_use
    _cuda_in_use = True


def check_cuda_after_fork() -> None:
    """Raise BertrtError in a child that was forked after its parent had used CUDA."""
    if _cuda_used_by_parent:
        raise BertrtError(
            "CUDA was in use before this process was forked, and does not survive a fork: start "
            "processes with the 'spawn' method, or fork before anything uses the GPU"
        )


def _inherit_cuda_use() -> None:
    global _cuda_used_by_parent
    _cuda_used_by_parent = _cuda_used_by_parent or _cuda_in_use


def _note_pytorch() -> None:
    # Looked up, not imported: only a process that has PyTorch can have used CUDA through it.
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)  # None while PyTorch is being imported
    if is_initialized is not None and is_initialized():
        mark_cuda_in_use()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_pytorch)
after_fork_in_child(_reset_resources)
after_fork_in_child(_inherit_cuda_use)
