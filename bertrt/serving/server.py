"""The process around the application: listen, load the models, serve, drain, stop.

uvicorn reads and writes HTTP here. Its own `Server` closes the listening socket as soon as a signal
comes, loads nothing after it has bound, and ends with the signal; so this is a life cycle of our
own, around uvicorn's protocol.
"""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import partial

from uvicorn.config import Config
from uvicorn.server import ServerState

from bertrt.errors import BertrtError
from bertrt.serving.app import App
from bertrt.serving.context import Context
from bertrt.serving.models import Model, Models
from bertrt.serving.protocol import Connection, ConnectionLimits

__all__ = ["Server", "listen", "run"]

# Seconds. While it drains, the server looks this often whether all is done; idle connections are
# kept for this long, since a request may be on its way; and what is cut has this long to say so.
_POLL, _IDLE_GRACE, _CUT_GRACE = 0.02, 0.5, 1.0


class Server:
    """A server of one application; runs once."""

    def __init__(
        self,
        app: App,
        context: Context,
        listening: socket.socket,
        loaders: Sequence[Callable[[], Model]],
        *,
        limits: ConnectionLimits | None = None,
        drain_delay: float = 0.0,
        drain_timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve an application whose context is not ready yet.

        Args:
            app, context: what answers.
            listening: the socket, from `listen`.
            loaders: each opens one model; they run one after the other, in a thread.
            limits: of connections.
            drain_delay: seconds for which the server goes on after `stop`, so that balancers see
                that it is not ready any more.
            drain_timeout: seconds that accepted requests have to be answered after that.
            tls: for HTTPS.
            on_ready: called when all models are loaded.
        """
        self._context = context
        self._socket = listening
        self._loaders = loaders
        self._limits = limits or ConnectionLimits()
        self._drain_delay, self._drain_timeout = drain_delay, drain_timeout
        self._tls = tls
        self._on_ready = on_ready
        self._state = ServerState()
        self._stopped = asyncio.Event()
        self._config = Config(
            app,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # not a line for each malformed request
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=self._limits.idle_seconds,
        )
        self._config.load()

    async def run(self) -> bool:
        """Serve until `stop` is called; return whether a request was cut then.

        Raises what a loader raises; nothing was ready then.
        """
        loop = asyncio.get_running_loop()
        connect = partial(Connection, self._config, self._state, self._limits, loop)
        dates = loop.create_task(self._keep_date())
        listener = await loop.create_server(
            connect, sock=self._socket, ssl=self._tls, backlog=self._limits.connections
        )
        try:
            if not await self._load():
                return False
            self._on_ready()
            await self._stopped.wait()
            return await self._drain(listener)
        finally:
            listener.close()
            dates.cancel()
            for connection in list(self._state.connections):
                connection.transport.abort()
            await asyncio.to_thread(self._context.models.close)

    def stop(self) -> None:
        """Begin to drain, and then return from `run`; call it in the event loop's thread."""
        self._stopped.set()

    async def _load(self) -> bool:
        """Open all models; return False if the server was stopped meanwhile."""
        models: list[Model] = []
        try:
            for load in self._loaders:
                models.append(await asyncio.to_thread(load))
                if self._stopped.is_set():
                    return False
            self._context.start(Models(models))
        finally:
            if not self._context.is_ready:
                await asyncio.to_thread(Models(models).close)
        return True

    async def _drain(self, listener: asyncio.Server) -> bool:
        """Finish what was accepted; return whether something was cut."""
        self._context.is_ready, self._context.is_draining = False, True
        # At least a moment, for connections that wait to be accepted.
        await asyncio.sleep(max(self._drain_delay, _POLL))
        await _stop_accepting(listener)
        # Requests that are on their way over idle connections are still answered.
        await self._wait_for_connections(min(_IDLE_GRACE, self._drain_timeout))
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._wait_for_connections(self._drain_timeout)
        cut = bool(self._state.connections or self._state.tasks)
        for task in self._state.tasks:
            task.cancel()  # which answers 503
        if cut:
            await self._wait_for_connections(_CUT_GRACE)
        return cut

    async def _wait_for_connections(self, seconds: float) -> None:
        """Return when there are neither connections nor requests, or after some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._state.connections or self._state.tasks:
                    await asyncio.sleep(_POLL)

    async def _keep_date(self) -> None:
        """Keep the answers' Date header."""
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(1)


async def _stop_accepting(listener: asyncio.Server) -> None:
    """Close a listening socket, without losing a connection that was just accepted.

    asyncio's own event loop makes the transport of an accepted connection an iteration later, and
    fails to if the server was closed meanwhile.
    """
    with contextlib.suppress(NotImplementedError):  # on Windows
        for listening in listener.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(2):
        await asyncio.sleep(0)
    listener.close()


def listen(host: str, port: int, limits: ConnectionLimits) -> socket.socket:
    """Listen on a socket for `Server`; port 0 is any free one.

    Raises BertrtError if that is not possible.
    """
    _allow_descriptors(2 * limits.connections + 256)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
        try:
            if os.name == "posix":  # elsewhere the option means another thing
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(limits.connections)  # a connection from now on waits, and is not refused
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise BertrtError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return bound


def run(server: Server) -> int:
    """Run a server in an event loop of its own; return the exit status.

    The first SIGTERM or SIGINT stops the server, the second one ends the process at once, with
    status 1. That is also the status if a request was cut.
    """
    signals: list[int] = []

    def on_signal(number: int) -> None:
        if signals:
            os._exit(1)
        signals.append(number)
        server.stop()

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, on_signal, number)
            except NotImplementedError:  # on Windows
                signal.signal(number, lambda one, _: loop.call_soon_threadsafe(on_signal, one))
        return await server.run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return int(runner.run(main()))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loops, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _allow_descriptors(count: int) -> None:
    """Raise the soft limit on open files, which is often lower than that on connections."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
