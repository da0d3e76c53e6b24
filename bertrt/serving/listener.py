"""An application at an endpoint: it accepts connections until it is told to stop."""

import asyncio
import contextlib
import socket
import ssl
from functools import partial

from uvicorn.config import Config
from uvicorn.server import ServerState

from bertrt.serving.endpoint import Endpoint
from bertrt.serving.message import Application
from bertrt.serving.protocol import Connection, ConnectionLimits, OnRefused

__all__ = ["Listener"]

# Seconds between two looks whether all is done.
_POLL = 0.02


class Listener:
    """An application, the endpoint that it answers at, and the connections there."""

    def __init__(
        self,
        app: Application,
        endpoint: Endpoint,
        limits: ConnectionLimits,
        on_refused: OnRefused,
    ) -> None:
        """Prepare to answer at an endpoint with an application; see `OnRefused`."""
        self.endpoint = endpoint
        self._limits = limits
        self._on_refused = on_refused
        self._state = ServerState()
        self._server: asyncio.Server | None = None
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
            timeout_keep_alive=limits.idle_seconds,
        )
        self._config.load()

    async def open(self, tls: ssl.SSLContext | None) -> None:
        """Accept connections from now on, by HTTPS if there is a context for it."""
        loop = asyncio.get_running_loop()
        connect = partial(
            Connection, self._config, self._state, self._limits, loop, self._on_refused
        )
        bound = self.endpoint.socket
        is_unix = bound.family == getattr(socket, "AF_UNIX", None)
        create = loop.create_unix_server if is_unix else loop.create_server
        self._server = await create(connect, sock=bound, ssl=tls, backlog=self._limits.connections)

    @property
    def is_busy(self) -> bool:
        """Whether there are connections or requests."""
        return bool(self._state.connections or self._state.tasks)

    def set_date(self, date: bytes) -> None:
        """Set the answers' Date header."""
        self._state.default_headers = [(b"date", date)]

    async def stop_accepting(self) -> None:
        """Close the endpoint, without losing a connection that was just accepted.

        asyncio's own event loop makes the transport of an accepted connection an iteration later,
        and fails to if the server was closed meanwhile.
        """
        if self._server is None:
            return
        with contextlib.suppress(NotImplementedError):  # on Windows
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(2):
            await asyncio.sleep(0)
        self._close_endpoint()

    def close_when_done(self) -> None:
        """Close each connection as soon as its request is answered."""
        for connection in list(self._state.connections):
            connection.shutdown()

    def cancel(self) -> None:
        """Give up the requests, which are answered 503."""
        for task in self._state.tasks:
            task.cancel()

    async def wait(self, seconds: float) -> None:
        """Return when there are neither connections nor requests, or after some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.is_busy:
                    await asyncio.sleep(_POLL)

    def abort(self) -> None:
        """Close everything at once."""
        self._close_endpoint()
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _close_endpoint(self) -> None:
        self.endpoint.remove_file()
        if self._server is not None:
            self._server.close()
        else:
            self.endpoint.socket.close()
