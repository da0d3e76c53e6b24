"""The parent's side of a worker: start it, call it, and turn every failure into a reason."""

import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks.contenders.registry import find
from benchmarks.harness.config import BenchConfig, worker_environment

__all__ = ["RefusedError", "WorkerProcess", "python_of"]

_MAIN = Path(__file__).resolve().parent / "worker_main.py"
_ROOT = _MAIN.parents[2]
_START_LOCK = threading.Lock()


class RefusedError(Exception):
    """A contender is missing, failed, crashed or took too long; the message is the reason."""


def python_of(environment: str) -> Path:
    """Return the Python of an environment; "bench" is the one that this process runs in.

    Raises RefusedError when it is not installed.
    """
    if environment == "bench":
        return Path(sys.executable)
    python = _ROOT / f".venv-{environment}" / "bin" / "python"
    if not python.exists():
        raise RefusedError(f"there is no .venv-{environment}: make bench-install makes it")
    return python


class WorkerProcess:
    """A running worker. Close it, or use it as a context manager."""

    def __init__(self, name: str, config: BenchConfig) -> None:
        """Start the worker of a contender; its output goes to a log in the run's folder.

        Raises RefusedError when its environment is not installed.
        """
        self.name = name
        python = python_of(find(name).environment)
        logs = config.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name}.log"
        self._connection, worker_end = multiprocessing.Pipe()
        descriptor = worker_end.fileno()
        # The lock keeps a worker that starts at the same time from inheriting this pipe's end.
        with _START_LOCK, self._log.open("ab") as log, worker_end:
            self._process = subprocess.Popen(
                # -P keeps the folder of worker_main.py off the worker's sys.path.
                [str(python), "-P", str(_MAIN), name, str(descriptor)],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_environment(config),
            )

    def call(self, verb: str, *, timeout: float = 600, **arguments: Any) -> Any:
        """Call a method of `worker.Worker` and return its value.

        Raises RefusedError with the worker's reason, or when the worker ends or takes longer than
        `timeout` seconds; it is killed then.
        """
        try:
            self._connection.send((verb, arguments))
            if not self._connection.poll(timeout):
                self.close()
                raise RefusedError(f"{verb} took longer than {timeout:g} s")
            status, value = self._connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise RefusedError(
                f"the process ended in {verb} with status {self._process.returncode}; "
                f"its last output is in {self._log.name}"
            ) from error
        if status != "ok":
            raise RefusedError(value)
        return value

    def close(self) -> None:
        """End the worker; may be called twice."""
        self._connection.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
