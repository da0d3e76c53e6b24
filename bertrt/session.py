"""Arrays to arrays: one ONNX Runtime session on one graph, built on first use in each process."""

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.errors import ArtifactError, BertrtError, DeviceError
from bertrt.ort import onnxruntime

__all__ = ["Session"]

_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_LIVE: "weakref.WeakSet[Session]" = weakref.WeakSet()


class Session:
    """A graph that can be run from many threads, and survives fork and pickle.

    ONNX Runtime's own session does neither: its threads do not exist in a forked child. So it is
    made on the first run, again on the first run in a child, and never travels in a pickle.
    """

    def __init__(self, graph: Path, *, level: str, threads: int, provider: str) -> None:
        """Name the graph's file, the optimization level, the threads and the one provider.

        Raises ArtifactError for a level that ONNX Runtime does not have.
        """
        if level not in _LEVELS:
            raise ArtifactError(
                f"the manifest's session_level is {level!r}, none of {', '.join(_LEVELS)}: "
                "export the checkpoint again"
            )
        self._graph = graph
        self._level = level
        self._threads = threads
        self._provider = provider
        self._reset()

    def _reset(self) -> None:
        self._inner: Any = None
        self._closed = False
        self._lock = threading.Lock()
        _LIVE.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_graph": self._graph,
            "_level": self._level,
            "_threads": self._threads,
            "_provider": self._provider,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which.

        Raises DeviceError when the provider is not to be had, ArtifactError when ONNX Runtime
        cannot read the graph, and BertrtError when the run itself fails or the session is closed.
        """
        session = self._open()
        names = list(outputs) if outputs else [one.name for one in session.get_outputs()]
        try:
            values = session.run(names, dict(feeds))
        except Exception as error:
            raise BertrtError(f"ONNX Runtime failed on this input: {error}") from error
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Free the session's memory and threads; a later run is an error."""
        with self._lock:
            self._inner = None
            self._closed = True

    def providers(self) -> list[str]:
        """The execution providers of the open session, in order."""
        return list(self._open().get_providers())

    def _open(self) -> Any:
        if self._inner is not None:
            return self._inner
        with self._lock:
            if self._closed:
                raise BertrtError("this runtime is closed: load the artifact again")
            if self._inner is None:
                self._inner = self._make()
            return self._inner

    def _make(self) -> Any:
        ort = onnxruntime()
        available = ort.get_available_providers()
        if self._provider not in available:
            raise DeviceError(
                f"{self._provider} is not in this ONNX Runtime, which has {', '.join(available)}: "
                "install the wheel that has it, or export for another device"
            )
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[self._level])
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(
                str(self._graph), options, providers=[self._provider], enable_fallback=False
            )
        except Exception as error:
            raise ArtifactError(
                f"ONNX Runtime {ort.__version__} cannot open {self._graph.name}: {error}"
            ) from error
        session.disable_fallback()
        if session.get_providers()[0] != self._provider:
            raise DeviceError(
                f"{self._provider} was asked for and ONNX Runtime gave {session.get_providers()}"
            )
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
