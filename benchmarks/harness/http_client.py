"""A client of one server over keep-alive connections, which costs little itself.

It takes no part in what is measured: no client library, one write a request, no parsing but that
of HTTP. It needs httptools, which every contender's server has too.
"""

import asyncio

__all__ = ["HttpClient"]

# More would be refused by servers that limit them; a request above it waits for a free one here.
_MOST_CONNECTIONS = 1000


class HttpClient:
    """Asks one server; belongs to the event loop that it is used in."""

    def __init__(self, host: str, port: int) -> None:
        """Ask a server; connects as it needs to."""
        self._address = host, port
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(_MOST_CONNECTIONS)

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of the answer; see `post`."""
        return await self._send(f"GET {path} HTTP/1.1\r\nhost: {self._address[0]}\r\n\r\n".encode())

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Post JSON; return the status and the body of the answer.

        Raises ConnectionError if the server refuses the connection, and ConnectionResetError if it
        closes one before the answer is complete.
        """
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._address[0]}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return await self._send(head.encode() + body)

    async def connect(self, count: int) -> None:
        """Open so many connections, which are idle."""
        self._idle += await asyncio.gather(*(self._connect() for _ in range(count)))

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _send(self, request: bytes) -> tuple[int, bytes]:
        async with self._free:
            connection = self._take() or await self._connect()
            answer = await connection.send(request)
            if connection.is_reusable:
                self._idle.append(connection)
            return answer

    def _take(self) -> "_Connection | None":
        """Return an idle connection that the server has not closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, *self._address)
        return connection


class _Connection(asyncio.Protocol):
    """A connection with at most one request at a time."""

    def __init__(self) -> None:
        self.is_reusable = True
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        import httptools  # here, because the workloads without a server do without it

        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def send(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self.connection_lost(None)
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reusable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))

    # What httptools calls.

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self.is_reusable = self._parser.should_keep_alive()
        self._body.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))
