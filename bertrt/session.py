"""Arrays to arrays: one ONNX Runtime session on one graph, built on first use in each process."""

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.errors import BertrtError
from bertrt.session_options import SessionOptions, open_session, shrinking

__all__ = ["Session"]

# A run of more tokens than this gives its working memory back to the system when it is done, and
# the next run that of its outputs; the session would keep what the largest run so far needed.
_LARGE_RUN = 8192
_LIVE: "weakref.WeakSet[Session]" = weakref.WeakSet()


class Session:
    """A graph that can be run from many threads, and survives fork and pickle.

    ONNX Runtime's own session does neither: its threads do not exist in a forked child. So it is
    made on the first run, again on the first run in a child, and never travels in a pickle.
    """

    def __init__(
        self, graph: Path, options: SessionOptions, check: Callable[[], None] | None = None
    ) -> None:
        """Name the graph's file, how to run it, and a check to make while it is being opened.

        Args:
            graph: the file.
            options: how to run it.
            check: raises ArtifactError for files that may not be used; called at most until it
                passes once, in a thread of its own, and nothing is run before it has passed.
        """
        self._graph = graph
        self._options = options
        self._check = check
        self._reset()

    def _reset(self) -> None:
        self._inner: Any = None
        self._closed = False
        self._after_large = False
        self._lock = threading.Lock()
        _LIVE.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"_graph": self._graph, "_options": self._options, "_check": self._check}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which.

        Raises DeviceError when the provider is not to be had, ArtifactError when ONNX Runtime
        cannot read the graph or the check fails, and BertrtError when the run itself fails or the
        session is closed.
        """
        session = self._open()
        names = list(outputs) if outputs else [one.name for one in session.get_outputs()]
        large = max((feed.size for feed in feeds.values()), default=0) > _LARGE_RUN
        shrink, self._after_large = large or self._after_large, large
        try:
            values = session.run(names, dict(feeds), shrinking() if shrink else None)
        except Exception as error:
            raise BertrtError(f"ONNX Runtime failed on this input: {error}") from error
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Free the session's memory and threads; a later run is an error."""
        with self._lock:
            self._inner = None
            self._closed = True

    def check_open(self) -> None:
        """Raise BertrtError when the session is closed."""
        if self._closed:
            raise BertrtError("this runtime is closed: load the artifact again")

    def inputs_with_defaults(self) -> list[str]:
        """The names of the graph's inputs that a caller may leave out."""
        return [one.name for one in self._open().get_overridable_initializers()]

    def providers(self) -> list[str]:
        """The execution providers of the open session, in order."""
        return list(self._open().get_providers())

    def _open(self) -> Any:
        if self._inner is not None:
            return self._inner
        with self._lock:
            self.check_open()
            if self._inner is None:
                self._inner = self._make()
            return self._inner

    def _make(self) -> Any:
        if self._check is None:
            return open_session(self._graph, self._options)
        # Both let go of the interpreter's lock: hashing a large file costs no time of its own.
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(self._check)
            try:
                session = open_session(self._graph, self._options)
            finally:
                # A file that is not the one exported is the better reason for a failure here.
                checked.result()
        self._check = None
        return session


def _forget_the_parents_sessions() -> None:
    """In a forked child: leave the parent's sessions alone, and build new ones on first use.

    They are kept, not freed: their destructors would join threads that the child never had.
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
