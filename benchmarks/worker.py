"""A worker: the process that holds one contender and does what the benchmark asks over a pipe.

`python worker.py CONTENDER DESCRIPTOR` reads requests `(verb, arguments)` from that file
descriptor and replies `("ok", value)` or `("refused", reason)`, until the other end closes. It
runs in whichever environment has the contender's libraries, so it imports only the standard
library, numpy and this folder's modules; what passes is plain types and numpy arrays.

Calls are timed here, on this side of the pipe.
"""

import gc
import importlib
import importlib.metadata
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from common.bertrt_source import source_hash
from contender import Contender, find
from models import Model

__all__ = ["Worker", "serve", "time_calls"]

_ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """The verbs, each a method; one model is loaded at a time."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self._contender: Contender | None = None

    def describe(self) -> dict[str, Any]:
        """What tables say of the contender, and why it cannot run here, if it cannot."""
        return {
            "title": self.module.TITLE,
            "tasks": self.module.TASKS,
            "precision": self.module.PRECISION,
            "missing": self.module.missing(),
            "versions": _versions(self.module.PACKAGES),
        }

    def prepare(self, model: Mapping[str, Any], task: str, folder: str) -> None:
        """Export or quantize into a folder that exists and is empty."""
        self.module.prepare(Model(**model), task, Path(folder))

    def load(self, model: Mapping[str, Any], task: str, folder: str, threads: int) -> float:
        """Load a model in place of the last one; the seconds that took."""
        self.unload()
        began = time.perf_counter()
        self._contender = self.module.load(Model(**model), task, Path(folder), threads)
        return time.perf_counter() - began

    def unload(self) -> None:
        """Free the model."""
        self._contender = None
        gc.collect()

    def run(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """The answers to a padded batch; int64 [B, S] three times."""
        return _plain(self.contender.run(*inputs))

    def answer(self, texts: list[str]) -> np.ndarray:
        """The answers to texts."""
        return _plain(self.contender.answer(texts))

    def run_each(self, batches: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """The answers to padded batches of any shapes, one after the other."""
        return np.concatenate([_plain(self._run_varied(*inputs)) for inputs in batches])

    def time_each(
        self,
        batches: Sequence[Sequence[np.ndarray]],
        seconds: float,
        least: int = 1,
        warm: bool = True,
    ) -> list[float]:
        """Seconds of each pass over padded batches; see `time_calls`."""

        def run() -> None:
            for inputs in batches:
                self._run_varied(*inputs)

        return time_calls(run, seconds, least=least, warm=warm)

    def time_run(
        self, inputs: Sequence[np.ndarray], seconds: float, least: int = 1, warm: bool = True
    ) -> list[float]:
        """Seconds of each call on a batch; see `time_calls`."""
        return time_calls(lambda: self.contender.run(*inputs), seconds, least=least, warm=warm)

    def time_answer(
        self, texts: list[str], seconds: float, least: int = 1, warm: bool = True
    ) -> list[float]:
        """Seconds of each call on texts; see `time_calls`."""
        return time_calls(lambda: self.contender.answer(texts), seconds, least=least, warm=warm)

    def use(self, module: str, function: str, arguments: Mapping[str, Any]) -> Any:
        """Call a function of this folder's modules with the contender and these arguments."""
        return getattr(importlib.import_module(module), function)(self.contender, **arguments)

    def memory(self) -> dict[str, int]:
        """Bytes of this process in memory: now, and at most so far."""
        # Not getrusage: its peak is inherited from the parent across fork and exec.
        status = Path("/proc/self/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status if ":" in line)
        now, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return {"now": now, "peak": peak}

    def _run_varied(self, *inputs: np.ndarray) -> Any:
        return getattr(self.contender, "run_varied", self.contender.run)(*inputs)

    @property
    def contender(self) -> Contender:
        """The loaded contender; ValueError when none is."""
        if self._contender is None:
            raise ValueError("no model is loaded: load one first")
        return self._contender


def time_calls(
    call: Callable[[], object], seconds: float, *, least: int = 1, warm: bool = True
) -> list[float]:
    """Seconds of each call, for so many seconds and `least` times at least.

    With `warm` one call goes before and is not counted: it wakes the threads and fills the
    caches that the contender before this one has left to itself.
    """
    if warm:
        call()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < least or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
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
        # A contender may fail in any way that its library finds; each is a reason in a row.
        except Exception as error:
            traceback.print_exc()
            reply = ("refused", f"{verb} failed: {_sentence(error)}")
        connection.send(reply)


def _sentence(error: Exception) -> str:
    """The type and first line of an error, which may be pages long and name local paths."""
    lines = str(error).replace(f"{_ROOT}/", "").strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _plain(answers: Any) -> np.ndarray:
    return np.ascontiguousarray(answers, dtype=np.float32)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # PyTorch's wheels for several versions of CUDA may have one name; without CUDA it is None.
        if name == "torch" and (cuda := _cuda_version()):
            found["CUDA"] = cuda
        if name == "bertrt":
            found["bertrt.export"] = f"source {source_hash('bertrt.export')}"
    return found


def _cuda_version() -> str | None:
    """The CUDA that PyTorch was built for, where `missing` had to import it."""
    return sys.modules["torch"].version.cuda if "torch" in sys.modules else None


if __name__ == "__main__":
    serve(Connection(int(sys.argv[2])), Worker(find(sys.argv[1])))
