"""Servers for tests: the command as a process, and the server in a thread with small limits."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.endpoint import Endpoint
from bertrt.serving.listener import Listener
from bertrt.serving.loading import open_model
from bertrt.serving.models import Model, Models
from bertrt.serving.options import Options
from bertrt.serving.protocol import ConnectionLimits
from bertrt.serving.server import Server


class Answer(NamedTuple):
    """An answer: its status, its headers by lower-case name, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    connection: http.client.HTTPConnection | None = None,
) -> Answer:
    """Send a request, over a new connection unless one is given."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    try:
        own.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        found = own.getresponse()
        named = {name.lower(): value for name, value in found.getheaders()}
        return Answer(found.status, named, found.read())
    finally:
        if connection is None:
            own.close()


def talk(port: int, *parts: bytes) -> bytes:
    """Send bytes over a connection, and return all that comes until the server closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    received = b""
    while part := connection.recv(1 << 16):
        received += part
    return received


class Process:
    """`bertrt serve` as a process, which is killed at the end."""

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-P", "-m", "bertrt", "serve", "--json", "--threads", "1"]
        if "--uds" not in arguments:
            command += ["--port", "0"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.port = 0
        self.printed = ""

    def wait_until_ready(self) -> dict[str, Any]:
        """Return the line that it prints then; sets `port`."""
        assert self.process.stdout is not None
        line = json.loads(self.process.stdout.readline())
        if line["url"].startswith("http"):
            self.port = int(line["url"].rpartition(":")[2])
        return dict(line)

    def stop(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> tuple[int, str]:
        """Return the exit status and what was printed on standard error; set `printed`."""
        self.printed, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture
def serve() -> Iterator[Callable[..., Process]]:
    """A factory: arguments of `bertrt serve` to a process."""
    with ExitStack() as stack:

        def start(*arguments: object, **options: Any) -> Process:
            process = Process(*arguments, **options)
            stack.callback(process.process.communicate)
            stack.callback(process.process.kill)
            return process

        yield start


class Thread:
    """A server in a thread of this process."""

    def __init__(
        self,
        loop_factory: Callable[[], asyncio.AbstractEventLoop],
        loaders: Sequence[Callable[[], Model]],
        *,
        connections: ConnectionLimits | None = None,
        limits: Limits | None = None,
        keys: Sequence[str] = (),
        **options: Any,
    ) -> None:
        connections = connections or ConnectionLimits()
        endpoint = Endpoint.tcp("127.0.0.1", 0, connections.connections)
        self.port = endpoint.socket.getsockname()[1]
        self.context = Context(Models([]), limits or Limits(), is_ready=False)
        self.ready = threading.Event()
        self.result: bool | BaseException | None = None
        self.listener = Listener(
            App(self.context, keys), endpoint, connections, self.context.metrics.refuse
        )
        self.server = Server(
            self.context, self.listener, loaders, on_ready=self.ready.set, **options
        )
        self._loop = loop_factory()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                self.result = runner.run(self.server.run())
        except Exception as error:
            self.result = error

    def stop(self) -> None:
        """Begin to drain."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.server.stop)

    def wait(self) -> bool | BaseException | None:
        """Return what the server returned or raised."""
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        return self.result


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def start(request: pytest.FixtureRequest, embedder: Path) -> Iterator[Callable[..., Thread]]:
    """A factory: options of `Thread` to a server of the embedding model, with each event loop."""
    with ExitStack() as stack:

        def begin(loaders: Any = None, *, wait: bool = True, **options: Any) -> Thread:
            if loaders is None:
                loaders = [lambda: open_model("emb", embedder, Options(threads=1))]
            server = Thread(request.param, loaders, **options)
            stack.callback(server.wait)
            stack.callback(server.stop)
            if wait:
                assert server.ready.wait(60)
            return server

        yield begin


@pytest.fixture(scope="session")
def embedder(make_artifact: Callable[..., Path]) -> Path:
    """An artifact that embeds texts."""
    return make_artifact("BertModel")


@pytest.fixture(scope="session")
def classifier(make_artifact: Callable[..., Path]) -> Path:
    """An artifact that classifies texts."""
    return make_artifact("BertForSequenceClassification")


@pytest.fixture(scope="session", name="ask")
def ask_fixture() -> Callable[..., Answer]:
    """The function `ask`."""
    return ask


@pytest.fixture(scope="session", name="talk")
def talk_fixture() -> Callable[..., bytes]:
    """The function `talk`."""
    return talk


@pytest.fixture(scope="session", name="read_all")
def read_all_fixture() -> Callable[..., bytes]:
    """The function `read_all`."""
    return read_all


@pytest.fixture
def bertrt_without() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of bertrt without a package."""

    def run(package: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        code = f"import sys; sys.modules[{package!r}] = None; from bertrt.cli import main; "
        code += "sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(os.environ)
        )

    return run
