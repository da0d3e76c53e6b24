"""A connection: uvicorn's, with the limits on size and time that uvicorn lacks.

It is a subclass of the protocol of uvicorn 0.54, and overrides what httptools and asyncio call.
What uvicorn does with a request stays as it is: `RequestResponseCycle` runs the application.
pyproject.toml holds uvicorn to the version that was read; with another one, read these again:
`data_received`, `on_message_begin`, `on_url`, `on_header`, `on_headers_complete`, `on_body`,
`on_message_complete`, `on_response_complete`, `_start_asgi_task`, `connection_lost`,
`send_400_response`, and the fields of the cycle that are used here (`more_body`,
`response_complete`, `keep_alive`, `disconnected`, `message_event`).
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from bertrt.serving.errors import HttpError, error_body

__all__ = ["Connection", "ConnectionLimits", "OnRefused"]

# Called for each error that a connection answers by itself: with its status, and why if the status
# does not say it, as a label of `bertrt_rejected_total`.
OnRefused = Callable[[int, str | None], None]


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may take.

    Attributes:
        connections: how many there may be at a time.
        headers: the most headers of a request.
        head: the most bytes of a request's first line and headers.
        head_seconds: until the head is complete, from its first byte; and until that one comes.
        body_seconds, body_rate: until the body is complete, and the bytes that each earn one second
            more.
        idle_seconds: how long an unused connection is kept.
        write_seconds: until a client has read the rest of its answer.
        linger_seconds: how long a client that got its answer early may go on sending.
    """

    connections: int = 1024
    headers: int = 100
    head: int = 32 << 10
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    body_rate: int = 256 << 10
    idle_seconds: int = 75
    write_seconds: float = 60.0
    linger_seconds: float = 2.0


class Connection(HttpToolsProtocol):
    """A connection of a client, within limits.

    There is at most one timer for what the client is to send next: the `_part` of a request. While
    a request is answered there is none: the application has a limit of its own. And there is at
    most one for what the client is to read.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        limits: ConnectionLimits,
        loop: asyncio.AbstractEventLoop,
        on_refused: OnRefused,
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self._limits = limits
        self._on_refused = on_refused
        # "head" and "body" are being received; "" is neither.
        self._part = ""
        self._timer: asyncio.TimerHandle | None = None
        # Until the client has to have read what was sent.
        self._read_timer: asyncio.TimerHandle | None = None
        # The request that the application answers, or has answered last.
        self._running: RequestResponseCycle | None = None
        self._body_deadline = 0.0
        # Of the request that is being received: bytes of its head and body by httptools' count,
        # and all bytes since the read after the one that it began in.
        self._head = self._body = self._raw = 0
        self._began = False
        # Why httptools was made to stop, and whether what still comes is discarded.
        self._refusal: HttpError | None = None
        self._ended = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._end(HttpError(503, "too many connections", headers={"retry-after": "1"}), "full")
        else:
            self._wait(self._limits.head_seconds, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells only the last request, and keeps its timer if the connection was reset.
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._cancel_timer()
        if self._read_timer is not None:
            self._read_timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            # Line breaks between requests are received, and begin none.
            self._wait(self._limits.head_seconds, self.transport.close)
        self._began = False
        super().data_received(data)
        if self._ended or self._began or not self._part:
            return
        # A header that does not end, and what surrounds chunks, are counted only here. Chunks of
        # one byte take six.
        self._raw += len(data)
        if self._raw - 8 * self._body > self._limits.head:
            self._end(_too_large_head())

    # What httptools calls. It stops at an exception, and uvicorn then calls send_400_response.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = "head"
        self._head = self._body = self._raw = 0
        self._began = True
        self._wait(self._limits.head_seconds, self._late)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self._part != "head":
            return  # a trailer: the application already has the headers
        super().on_header(name, value)
        if len(self.headers) > self._limits.headers:
            self._refuse(HttpError(431, f"there are more than {self._limits.headers} headers"))

    def on_headers_complete(self) -> None:
        names = {name for name, _ in self.headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            # A proxy might see another end of the body.
            self._refuse(HttpError(400, "content-length and transfer-encoding exclude each other"))
        super().on_headers_complete()
        self._part = "body"
        self._body_deadline = self.loop.time() + self._limits.body_seconds
        self._wait(self._limits.body_seconds, self._late)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._body += len(body)
        self._body_deadline += len(body) / self._limits.body_rate

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = ""
        self._cancel_timer()
        if self.cycle.response_complete:
            self._wait(self._limits.idle_seconds, self.transport.close)

    # What uvicorn calls.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size() and self._read_timer is None:
            self._read_timer = self.loop.call_later(
                self._limits.write_seconds, self._abort_unless_read
            )
        if self._part == "body" and self.cycle.response_complete:
            # Reading on for a moment lets the client see why its body is not wanted: a connection
            # that is closed while bytes come is reset, and the answer lost.
            self._wait(self._limits.linger_seconds, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        self._end(self._refusal or HttpError(400, "the request is not valid HTTP"))

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > self._limits.head:
            self._refuse(_too_large_head())

    def _refuse(self, error: HttpError) -> NoReturn:
        """Make httptools stop, and answer with an error."""
        self._refusal = error
        raise error

    def _late(self) -> None:
        """Refuse what has not come in time, unless it may still come."""
        wait = self._body_deadline - self.loop.time() if self._part == "body" else 0
        if self.flow.read_paused:
            # We do not read: an earlier request on this connection is being answered.
            wait = self._limits.head_seconds
        if wait > 0:
            self._wait(wait, self._late)
            return
        message = f"the request's {self._part} did not come in time"
        self._end(HttpError(408, message, headers={"x-should-retry": "false"}))

    def _end(self, error: HttpError, reason: str | None = None) -> None:
        """Answer with an error, and close the connection once the client has had time to read it.

        Earlier requests that are still being answered are answered first, and the error is not
        sent; neither is it after an answer that came before the end of its request.
        """
        self._ended = True
        self._cancel_timer()
        cycle = self.cycle  # of the last head that was complete
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                return
            if self.pipeline:
                cycle.disconnected = True
                self.pipeline[0] = (cycle, self._close_in_turn)
                return
            # The application waits for the rest of the body.
            cycle.disconnected = True
            cycle.message_event.set()
        elif self._part == "body":
            self.transport.close()
            return
        self._on_refused(error.status, reason)
        self.transport.write(self._error_bytes(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(self._limits.linger_seconds, self.transport.close)

    async def _close_in_turn(self, *_: object) -> None:
        self.transport.close()

    def _error_bytes(self, error: HttpError) -> bytes:
        body = orjson.dumps(error_body(error, "tei"))
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", uuid.uuid4().hex.encode()),
            *((name.encode(), value.encode()) for name, value in error.headers.items()),
        ]
        lines = (b": ".join(pair) + b"\r\n" for pair in headers)
        return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body])

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        """Call a function after some time, in place of the one that was to be called."""
        self._cancel_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort_unless_read(self) -> None:
        self._read_timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()


def _too_large_head() -> HttpError:
    return HttpError(431, "the request's head is too large")
