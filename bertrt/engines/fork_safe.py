"""What sessions and workers have in common: made on first use in each process, by whoever asks."""

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from bertrt.errors import BertrtError

__all__ = ["ForkSafe"]

_LIVE: "weakref.WeakSet[ForkSafe]" = weakref.WeakSet()


class ForkSafe(ABC):
    """Something costly that is made on the first use, again in a forked child, and never pickled.

    Neither threads nor CUDA survive a fork. A subclass names in `_settings` the attributes from
    which `_make` makes the costly thing; they alone travel in a pickle.
    """

    _settings: ClassVar[tuple[str, ...]]

    def __init__(self, check: Callable[[], None] | None = None) -> None:
        """Take a check to make while the session is being opened.

        Args:
            check: raises ArtifactError for files that may not be used; called at most until it
                passes once, in a thread of its own, and nothing is run before it has passed.
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
        """Free the session's memory and threads; a later run is an error."""
        with self._lock:
            self._inner = None
            self._closed = True

    def check_open(self) -> None:
        """Raise BertrtError when the session is closed."""
        if self._closed:
            raise BertrtError("this runtime is closed: load the artifact again")

    def info(self) -> dict[str, Any]:
        """What `Runtime.info` says of how this session runs; plain Python."""
        return {}

    @abstractmethod
    def _make(self) -> Any:
        """Make the costly thing; called by one thread at a time."""

    def _open(self) -> Any:
        # A thread that closes this meanwhile takes nothing from one that has it already.
        inner = self._inner
        if inner is not None:
            return inner
        with self._lock:
            self.check_open()
            if self._inner is None:
                self._inner = self._checked()
            return self._inner

    def _checked(self) -> Any:
        if self._check is None:
            return self._make()
        # Both let go of the interpreter's lock: hashing a large file costs no time of its own.
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(self._check)
            try:
                made = self._make()
            finally:
                # A file that is not the one exported is the better reason for a failure here.
                checked.result()
        self._check = None
        return made


def _forget_the_parents_sessions() -> None:
    """In a forked child: leave the parent's sessions alone, and open them anew on first use.

    They are kept, not freed: their destructors would join threads that the child never had, or
    call a GPU's driver, which the child has not.
    """
    for session in list(_LIVE):
        if session._inner is not None:
            _ABANDONED.append(session._inner)
        closed = session._closed
        session._reset()
        session._closed = closed


_ABANDONED: list[Any] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_sessions)
