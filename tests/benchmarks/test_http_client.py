"""The client of HTTP servers: what it sends, what it reads, and which connections it uses again."""

import asyncio

import pytest

from benchmarks.harness.http_client import HttpClient


def ask(serve, *calls):
    """Make calls on a client, one after the other, of a server with this handler.

    Returns the results and the number of connections.
    """
    connections = 0

    async def main():
        async def handle(reader, writer):
            nonlocal connections
            connections += 1
            try:
                await serve(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        client = HttpClient(*server.sockets[0].getsockname())
        results = []
        for call in calls:
            try:
                results.append(await asyncio.wait_for(call(client), 10))
            except OSError as error:
                results.append(error)
        client.close()
        server.close()
        return results

    return asyncio.run(main()), connections


async def read_request(reader):
    """Return the first line, the headers and the body of a request; None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.decode().rstrip().split("\r\n")
    headers = dict(one.split(": ", 1) for one in lines)
    return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def test_a_connection_is_used_again_and_bodies_are_whole():
    seen = []

    async def echo(reader, writer):
        while request := await read_request(reader):
            seen.append(request)
            body = b"<" + request[2] + b">"
            answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            for byte in answer:  # in as many reads
                writer.write(bytes([byte]))
                await writer.drain()

    results, connections = ask(
        echo,
        lambda client: client.post("/v1/x", b'{"a": 1}'),
        lambda client: client.get("/health"),
        lambda client: client.post("/v1/x", b"z" * 100_000),
    )
    assert results == [(200, b'<{"a": 1}>'), (200, b"<>"), (200, b"<" + b"z" * 100_000 + b">")]
    assert connections == 1
    assert [line for line, _, _ in seen] == [
        "POST /v1/x HTTP/1.1",
        "GET /health HTTP/1.1",
        "POST /v1/x HTTP/1.1",
    ]
    assert seen[0][1]["content-type"] == "application/json"


def test_connections_are_opened_beforehand():
    async def answers(reader, writer):
        while await read_request(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()

    async def three(client):
        return await asyncio.gather(*(client.get("/") for _ in range(3)))

    results, connections = ask(answers, lambda client: client.connect(3), three, three)
    assert results == [None, [(200, b"")] * 3, [(200, b"")] * 3]
    assert connections == 3


def test_chunked_answers_and_other_statuses_are_read():
    async def chunked(reader, writer):
        await read_request(reader)
        writer.write(
            b"HTTP/1.1 429 Busy\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        await writer.drain()
        await read_request(reader)

    results, _ = ask(chunked, lambda client: client.post("/", b""))
    assert results == [(429, b"abc")]


def test_a_connection_that_the_server_closes_is_not_used_again():
    async def once(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na")
        await writer.drain()

    async def closes_silently(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb")
        await writer.drain()

    async def pause(client):
        await asyncio.sleep(0.1)

    post = lambda client: client.post("/", b"")  # noqa: E731
    assert ask(once, post, post) == ([(200, b"a"), (200, b"a")], 2)
    assert ask(closes_silently, post, pause, post) == ([(200, b"b"), None, (200, b"b")], 2)


def test_an_answer_that_does_not_come_is_an_error():
    async def hangs_up(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await writer.drain()

    [error], _ = ask(hangs_up, lambda client: client.post("/", b""))
    assert isinstance(error, ConnectionResetError)

    async def refused():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        server.close()
        await server.wait_closed()
        await HttpClient(*address).get("/")

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(refused())
