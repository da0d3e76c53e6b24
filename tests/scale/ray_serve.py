"""Ray Serve for tests: small clusters that always end, requests, and the processes of replicas."""

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# A machine with two busy cores is slow to start a proxy.
os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "120"

import numpy as np
import ray
from ray import serve

__all__ = [
    "CLUSTER",
    "EMBEDDER",
    "STORE",
    "TEXTS",
    "Answer",
    "Load",
    "ask",
    "check_answers",
    "check_failures",
    "delete_applications",
    "eventually",
    "free_port",
    "local_cluster",
    "replica_processes",
    "start_serve",
]

EMBEDDER = Path(os.environ["ARTIFACTS"]) / "embedder"
TEXTS = [f"text number {number} about the cat and the {number * 7} dogs" for number in range(64)]
STORE = 100 << 20
CLUSTER = {"object_store_memory": STORE, "include_dashboard": False}


@dataclass
class Answer:
    """An HTTP answer; status 0 if the connection broke."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


def ask(url: str, body: Any = None, *, method: str | None = None, **headers: str) -> Answer:
    """Send a request: a GET without a body, else a POST of JSON or of bytes."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        named.setdefault("content-type", "application/json")
    request = urllib.request.Request(url, data, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return Answer(answer.status, answer.read(), answer.headers.items())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(), error.headers.items())
    except OSError:
        return Answer(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_serve() -> str:
    """Start Serve with one proxy, and return its address."""
    port = free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    return f"http://127.0.0.1:{port}"


@contextmanager
def local_cluster(cpus: int = 4) -> Iterator[str]:
    """Run a cluster of one node with Serve; yields Serve's address."""
    ray.init(num_cpus=cpus, log_to_driver=False, **CLUSTER)
    try:
        yield start_serve()
    finally:
        serve.shutdown()
        ray.shutdown()


def delete_applications() -> None:
    """Delete what Serve runs, and return when its replicas have ended."""
    for name in serve.status().applications:
        serve.delete(name)


def replica_processes(deployment: str) -> list[int]:
    """Return the process ids of a deployment's replicas in the clusters of this process."""
    title = f"ray::ServeReplica:default:{deployment}".encode()
    found = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and _read(folder / "cmdline").startswith(title)
    ]
    return [pid for pid in found if os.getpid() in _ancestors(pid)]


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
        if not fields:
            return
        pid = int(fields[1])
        yield pid


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""


def eventually(check: Callable[[], Any], seconds: float = 60) -> Any:
    """Return what a check returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it never was"
        time.sleep(0.1)
    return found


@dataclass
class Sent:
    """A request that was sent: its text's number, when, and the answer."""

    number: int
    started: float
    ended: float
    answer: Answer


class Load:
    """Clients that post texts one after the other until they are told to stop."""

    def __init__(self, url: str, texts: list[str], clients: int = 4) -> None:
        self.sent: list[Sent] = []
        self._url, self._texts = url, texts
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(place,)) for place in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, seconds: float = 60) -> None:
        """Return when so many more requests are answered well."""
        start = len(self.sent)
        eventually(
            lambda: sum(one.answer.status == 200 for one in self.sent[start:]) >= count, seconds
        )

    def _run(self, number: int) -> None:
        while not self._stopped.is_set():
            number = (number + 1) % len(self._texts)
            started = time.monotonic()
            answer = ask(f"{self._url}/embed", {"inputs": self._texts[number]})
            self.sent.append(Sent(number, started, time.monotonic(), answer))


def check_answers(load: Load, vectors: np.ndarray) -> None:
    """Check that each request that was answered has its own text's vector."""
    good = [one for one in load.sent if one.answer.status == 200]
    assert good
    for one in good:
        np.testing.assert_allclose(one.answer.json[0], vectors[one.number], atol=1e-5)


def check_failures(load: Load, killed: float) -> None:
    """Check that only requests failed which were in flight when something was killed."""
    failed = [one for one in load.sent if one.answer.status != 200]
    assert all(one.started <= killed <= one.ended for one in failed), [
        (one.started - killed, one.ended - killed, one.answer) for one in failed
    ]
