"""The parent's end of a worker: start it, ask it, and turn whatever goes wrong into a reason."""

import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from bench import Bench, worker_environment
from contender import find

__all__ = ["Process", "Refused", "python_of"]

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent
_STARTING = threading.Lock()


class Refused(Exception):
    """A contender is missing, failed, crashed or took too long; the message is the reason."""


def python_of(environment: str) -> Path:
    """The Python of an environment, "bench" being the one that this process runs in.

    Raises Refused when it is not installed.
    """
    if environment == "bench":
        return Path(sys.executable)
    python = _ROOT / f".venv-{environment}" / "bin" / "python"
    if not python.exists():
        raise Refused(f"there is no .venv-{environment}: make bench-install makes it")
    return python


class Process:
    """A running worker. Close it, or use it as a context manager."""

    def __init__(self, name: str, bench: Bench) -> None:
        """Start the worker of a contender; its output goes to a log under the run's folder.

        Raises Refused when its environment is not installed.
        """
        self.name = name
        python = python_of(find(name).ENVIRONMENT)
        logs = bench.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name}.log"
        self._connection, theirs = multiprocessing.Pipe()
        descriptor = theirs.fileno()
        # The lock keeps another worker, started meanwhile, from inheriting this pipe's end.
        with _STARTING, self._log.open("ab") as log, theirs:
            self._process = subprocess.Popen(
                [str(python), str(_HERE / "worker.py"), name, str(descriptor)],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_environment(bench),
            )

    def call(self, verb: str, *, timeout: float = 600, **arguments: Any) -> Any:
        """Ask for one of the verbs of `worker.Worker` and wait for the value.

        Raises Refused with the worker's reason, or when it ends or takes longer than `timeout`
        seconds; then it is killed.
        """
        try:
            self._connection.send((verb, arguments))
            if not self._connection.poll(timeout):
                self.close()
                raise Refused(f"{verb} took longer than {timeout:g} s")
            status, value = self._connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise Refused(
                f"the process ended in {verb} with status {self._process.returncode}; "
                f"its last words are in {self._log.name}"
            ) from error
        if status != "ok":
            raise Refused(value)
        return value

    def close(self) -> None:
        """End the worker; closing twice is no error."""
        self._connection.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
