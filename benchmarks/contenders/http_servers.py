"""Servers of embeddings over HTTP: bertrt's own, and what people have instead.

Each is a process of its own, which the worker starts and asks. The server has the CPUs of the run;
the worker, which is the client then, moves to the CPUs that are left, if there are any.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.bertrt import CONTENDERS as BERTRT
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model
from benchmarks.harness.http_client import HttpClient
from benchmarks.harness.process_usage import cpu_seconds, memory_bytes, processes_of

__all__ = ["APPS", "CONTENDERS", "OPENAI", "PLAIN", "HttpServer", "free_port"]

APPS = Path(__file__).parent / "apps"
_HOST = "127.0.0.1"
_START_SECONDS = 120
_NAME = "model"
# Busy, not ready, and what a proxy answers before its application is there.
_TURNED_AWAY = (429, 503, 404)
# Of Linux.
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Api:
    """A route, how a request asks it for vectors, and where they are in the answer."""

    path: str
    request: Callable[[Sequence[str]], dict[str, Any]]
    vectors: Callable[[Any], Any]


OPENAI = Api(
    "/v1/embeddings",
    lambda texts: {"model": _NAME, "input": list(texts)},
    lambda answer: [entry["embedding"] for entry in answer["data"]],
)
PLAIN = Api("/embed", lambda texts: {"inputs": list(texts)}, lambda answer: answer)


class HttpServer:
    """A running server and a client for it; a `LoadedModel` that takes texts alone."""

    def __init__(self, command: Sequence[str], port: int, api: Api, **environment: str) -> None:
        """Start a server and wait until it answers.

        Raises RuntimeError if it ends or does not answer in two minutes.
        """
        self._api = api
        self.address, self.path = (_HOST, port), api.path
        self._process = subprocess.Popen(
            [str(part) for part in command],
            # Its standard streams are the worker's: a log.
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        self._client: HttpClient | None = None
        self._cpus = _leave_cpus()
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`; one request."""
        import asyncio

        async def ask() -> np.ndarray:
            try:
                return await self.live_answers(texts)
            finally:
                self.live_close()

        return asyncio.run(ask())

    def run(self, *_: np.ndarray) -> np.ndarray:
        """Raise ValueError: servers take texts."""
        raise ValueError("a server takes texts, and not token ids")

    async def live_answer(self, text: str) -> np.ndarray:
        """Return one text's vector; OverflowError if the server turns the request away."""
        return (await self.live_answers([text]))[0]

    async def live_answers(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, which are one request; see `live_answer`."""
        import orjson

        status, body = await self._connected().post(self.path, self.body(texts))
        if status in _TURNED_AWAY:
            raise OverflowError(f"status {status}")
        if status != 200:
            raise RuntimeError(f"the server answered {status}: {body[:200]!r}")
        return np.asarray(self._api.vectors(orjson.loads(body)), np.float32)

    async def live_open(self, count: int) -> None:
        """Open so many connections."""
        await self._connected().connect(count)

    def body(self, texts: Sequence[str]) -> bytes:
        """Return the body of a request for the vectors of texts."""
        import orjson

        return orjson.dumps(self._api.request(texts))

    def live_close(self) -> None:
        """Close the connections of this event loop."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the server's processes have used."""
        return cpu_seconds(self._process.pid)

    def memory_bytes(self) -> int:
        """Return the bytes that the server's processes have in memory."""
        return memory_bytes(processes_of(self._process.pid))

    def terminate(self) -> None:
        """Ask the server to end, as a service manager does."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Return the server's exit status; raises subprocess.TimeoutExpired if it goes on."""
        return self._process.wait(seconds)

    def close(self) -> None:
        """End the server."""
        if self._process.poll() is None:
            self.terminate()
            try:
                self.wait(3)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        os.sched_setaffinity(0, self._cpus)  # for the next server

    def __del__(self) -> None:
        self.close()

    def _connected(self) -> HttpClient:
        """Return the client of this event loop."""
        if self._client is None:
            self._client = HttpClient(*self.address)
        return self._client

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self._process.returncode}")
            try:
                self.answer(["ready?"])
                return
            except (OSError, OverflowError):
                time.sleep(0.1)
        raise RuntimeError(f"the server did not answer in {_START_SECONDS} s")


def _end_with_parent() -> None:
    """Have the system end this process when the worker ends, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_cpus() -> set[int]:
    """Move this process to the CPUs that the server does not have, if there are any.

    Returns the server's CPUs, which this process had.
    """
    taken = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - taken or taken)
    return taken


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _script(name: str) -> str:
    """Return the path of a command of this environment."""
    return str(Path(sys.executable).parent / name)


def _bertrt(library: Contender) -> Contender:
    """Serve what bertrt's own contender exports."""

    def load(model: Model, task: str, folder: Path, threads: int) -> HttpServer:
        port = free_port()
        command = [_script("bertrt"), "serve", f"{_NAME}={folder / 'artifact'}"]
        command += ["--port", str(port), "--threads", str(threads)]
        return HttpServer(command, port, OPENAI)

    return Contender(
        f"{library.title} serve",
        library.precision,
        ("bertrt", "onnxruntime", "uvicorn", "httptools", "orjson"),
        lambda: packages_missing("bertrt", "onnxruntime", "uvicorn", "httptools", "orjson"),
        load,
        library.prepare,
        tasks=("embeddings",),
    )


def _fastapi(title: str, app: str) -> Contender:
    def load(model: Model, task: str, folder: Path, threads: int) -> HttpServer:
        port = free_port()
        command = [sys.executable, "-P", "-m", "uvicorn", "--app-dir", str(APPS), f"{app}:app"]
        command += ["--host", _HOST, "--port", str(port), "--log-level", "warning"]
        checkpoint = str(model.checkpoint(task))
        return HttpServer(command, port, PLAIN, MODEL=checkpoint, THREADS=str(threads))

    return Contender(
        title,
        "float32",
        ("fastapi", "uvicorn", "sentence-transformers", "torch", "transformers"),
        lambda: packages_missing("fastapi", "uvicorn", "sentence_transformers", "torch", "orjson"),
        load,
        tasks=("embeddings",),
    )


def _load_infinity(model: Model, task: str, folder: Path, threads: int) -> HttpServer:
    port = free_port()
    options: Mapping[str, str] = {
        "model-id": str(model.checkpoint(task)),
        "served-model-name": _NAME,
        "engine": "torch",
        "device": "cpu",
        "dtype": "float32",
        "url-prefix": "/v1",
        "host": _HOST,
        "port": str(port),
        "log-level": "warning",
    }
    command = [_script("infinity_emb"), "v2", "--no-bettertransformer"]
    for name, value in options.items():
        command += [f"--{name}", value]
    return HttpServer(command, port, OPENAI, DO_NOT_TRACK="1")


CONTENDERS = {
    "bertrt_serve": _bertrt(BERTRT["bertrt"]),
    "bertrt_serve_int8": _bertrt(BERTRT["bertrt_int8"]),
    "fastapi": _fastapi("FastAPI, sentence-transformers", "plain"),
    "fastapi_batched": _fastapi("FastAPI, sentence-transformers, micro-batches", "micro_batched"),
    "infinity": Contender(
        "infinity",
        "float32",
        ("infinity-emb", "sentence-transformers", "torch", "transformers"),
        lambda: packages_missing("infinity_emb", "torch", "httptools", "orjson"),
        _load_infinity,
        tasks=("embeddings",),
        environment="infinity",
    ),
}
