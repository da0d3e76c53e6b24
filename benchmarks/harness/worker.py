"""A worker: the process that holds one contender and obeys the benchmark over a pipe.

It reads requests `(verb, arguments)` and replies `("ok", value)` or `("refused", reason)`, until
the other end closes. It runs in the environment that has the contender's libraries, so it imports
only the standard library, numpy and `benchmarks`; plain types, numpy arrays, and functions and
dataclasses of `benchmarks` pass through the pipe.

Calls are timed in the worker, on this side of the pipe.
"""

import gc
import itertools
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.contender import Contender, LoadedModel
from benchmarks.contenders.registry import find
from benchmarks.data.models import Model
from benchmarks.harness.versions import package_versions

__all__ = ["Worker", "main", "serve", "time_calls"]

_ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """The verbs, a method each; at most one model is loaded at a time."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._loaded: LoadedModel | None = None

    def describe(self) -> dict[str, Any]:
        """Return what tables say about the contender, and why it cannot run here, or None."""
        return {
            "title": self._contender.title,
            "tasks": self._contender.tasks,
            "precision": self._contender.precision,
            "missing": self._contender.missing(),
            "versions": package_versions(self._contender.packages),
        }

    def prepare(self, model: Model, task: str, folder: str) -> None:
        """Export or quantize into a folder that exists and is empty."""
        self._contender.prepare(model, task, Path(folder))

    def load(self, model: Model, task: str, folder: str, threads: int) -> float:
        """Replace the loaded model; return the seconds that loading took."""
        self.unload()
        start = time.perf_counter()
        self._loaded = self._contender.load(model, task, Path(folder), threads)
        return time.perf_counter() - start

    def unload(self) -> None:
        """Free the model."""
        self._loaded = None
        gc.collect()

    def run(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Answer a padded batch, int64 [B, S] three times."""
        return _as_float32(self.loaded.run(*inputs))

    def answer(self, texts: list[str]) -> np.ndarray:
        """Answer texts."""
        return _as_float32(self.loaded.answer(texts))

    def rank(self, candidates: Sequence[tuple[str, list[str]]]) -> np.ndarray:
        """Score the passages of each of Q queries, N a query: [Q, N]."""
        return np.stack([_as_float32(self.loaded.rank(*each)) for each in candidates])

    def run_each(self, batches: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """Answer padded batches of any shapes, one after the other."""
        return np.concatenate([_as_float32(self._run_varied(*inputs)) for inputs in batches])

    def time_each(
        self,
        batches: Sequence[Sequence[np.ndarray]],
        seconds: float,
        least: int = 1,
        warm: bool = True,
    ) -> list[float]:
        """Return the seconds of each pass over padded batches; see `time_calls`."""

        def run() -> None:
            for inputs in batches:
                self._run_varied(*inputs)

        return time_calls(run, seconds, least=least, warm=warm)

    def time_run(
        self, inputs: Sequence[np.ndarray], seconds: float, least: int = 1, warm: bool = True
    ) -> list[float]:
        """Return the seconds of each call on a batch; see `time_calls`."""
        return time_calls(lambda: self.loaded.run(*inputs), seconds, least=least, warm=warm)

    def time_answer(
        self, texts: list[str], seconds: float, least: int = 1, warm: bool = True
    ) -> list[float]:
        """Return the seconds of each call on texts; see `time_calls`."""
        return time_calls(lambda: self.loaded.answer(texts), seconds, least=least, warm=warm)

    def time_rank(self, candidates: Sequence[tuple[str, list[str]]]) -> list[float]:
        """Return the seconds of each query, in one pass; see `time_calls`."""
        following = itertools.cycle(candidates)
        return time_calls(lambda: self.loaded.rank(*next(following)), 0, least=len(candidates))

    def apply(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Call a function of `benchmarks` with the loaded model and these arguments."""
        return function(self.loaded, **arguments)

    def memory(self) -> dict[str, int]:
        """Return the bytes that this process has in memory, now and at its peak so far."""
        # Not getrusage: its peak is inherited from the parent across fork and exec.
        status = Path("/proc/self/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status if ":" in line)
        now, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return {"now": now, "peak": peak}

    def _run_varied(self, *inputs: np.ndarray) -> Any:
        return getattr(self.loaded, "run_varied", self.loaded.run)(*inputs)

    @property
    def loaded(self) -> LoadedModel:
        """The loaded model; raises ValueError when there is none."""
        if self._loaded is None:
            raise ValueError("no model is loaded: load one first")
        return self._loaded


def time_calls(
    call: Callable[[], object], seconds: float, *, least: int = 1, warm: bool = True
) -> list[float]:
    """Call repeatedly for a number of seconds, and at least `least` times; return each duration.

    With `warm` there is one untimed call before: it wakes the threads and refills the caches after
    another contender's turn.
    """
    if warm:
        call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < least or time.perf_counter() - start < seconds:
        call_start = time.perf_counter()
        call()
        times.append(time.perf_counter() - call_start)
    return times


def serve(connection: Connection, worker: Worker) -> None:
    """Answer requests until the other end closes the connection."""
    while True:
        try:
            verb, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            reply = ("ok", getattr(worker, verb)(**arguments))
        # A contender's library may raise anything; each error is a reason in a row.
        except Exception as error:
            traceback.print_exc()
            reply = ("refused", f"{verb} failed: {_sentence(error)}")
        connection.send(reply)


def main(name: str, descriptor: int) -> None:
    """Serve the contender of this name on the connection with this file descriptor."""
    serve(Connection(descriptor), Worker(find(name)))


def _sentence(error: Exception) -> str:
    """Return the type and first line of an error, which may be pages long and name local paths."""
    lines = str(error).replace(f"{_ROOT}/", "").strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _as_float32(answers: Any) -> np.ndarray:
    return np.ascontiguousarray(answers, dtype=np.float32)
