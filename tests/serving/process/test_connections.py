"""What a connection may take: time, bytes, headers, and other connections."""

import gzip
import json
import socket
import struct
import time
from typing import Any

import pytest

from bertrt.serving.context import Limits
from bertrt.serving.protocol import ConnectionLimits

HEAD = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BODY = b'{"inputs":"a"}'
REQUEST = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
QUICK = ConnectionLimits(
    head_seconds=0.3,
    body_seconds=0.3,
    body_rate=1 << 20,
    idle_seconds=1,
    write_seconds=0.3,
    linger_seconds=0.1,
)


def statuses(received: bytes) -> list[int]:
    """The status of each answer in some bytes, from head to head."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        found.append(int(lines[0].split()[1]))
        headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
        if found[-1] != 100:
            rest = rest[int(headers[b"content-length"]) :]
        received = rest
    return found


def test_requests_share_a_connection(start: Any, talk: Any) -> None:
    server = start()
    last = REQUEST.replace(b"host: x", b"connection: close")
    assert statuses(talk(server.port, REQUEST, REQUEST + REQUEST, last)) == [200] * 4


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /embed HTTP/1.1\r\nhost: x\r\n",
        b"P",
        HEAD + b"x-endless: aaa",
        REQUEST + b"POST /em",
    ],
)
def test_a_slow_head_is_cut(start: Any, talk: Any, sent: bytes) -> None:
    server = start(connections=QUICK)
    answered = [200] if sent.startswith(REQUEST) else []
    assert statuses(talk(server.port, sent)) == [*answered, 408]


def test_a_head_is_cut_that_comes_byte_by_byte(start: Any, read_all: Any) -> None:
    server = start(connections=QUICK)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for byte in HEAD[:4]:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
        received = read_all(connection)
    assert statuses(received) == [408]
    assert b"x-should-retry: false" in received


def test_a_connection_that_sends_nothing_is_closed_without_an_answer(start: Any, talk: Any) -> None:
    server = start(connections=QUICK)
    assert talk(server.port) == b""
    assert talk(server.port, b"\r\n\r\n") == b""
    assert statuses(talk(server.port, REQUEST, b"\r\n")) == [200]


def test_an_unused_connection_is_closed(start: Any, talk: Any) -> None:
    server = start(connections=QUICK)
    assert statuses(talk(server.port, REQUEST)) == [200]


@pytest.mark.parametrize(
    "framing",
    [b"content-length: 100\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"],
)
def test_a_slow_body_is_cut(start: Any, talk: Any, framing: bytes) -> None:
    server = start(connections=QUICK)
    assert statuses(talk(server.port, HEAD + framing)) == [408]
    assert statuses(talk(server.port, REQUEST, HEAD + framing)) == [200, 408]


def test_a_large_body_has_more_time(start: Any, read_all: Any) -> None:
    """Half a mebibyte earns half a second here, above the third that every body has."""
    server = start(connections=QUICK)
    body = BODY + b" " * (1 << 19)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(HEAD + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body))
        connection.sendall(body[:-1])
        time.sleep(0.5)
        connection.sendall(body[-1:])
        assert statuses(read_all(connection)) == [200]


def test_too_many_headers(start: Any, talk: Any) -> None:
    server = start(connections=QUICK)
    allowed = QUICK.headers - 4
    for count, status in ((allowed, 200), (allowed + 1, 431), (5000, 431)):
        more = b"".join(b"x-%d: a\r\n" % number for number in range(count))
        end = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY)
        assert statuses(talk(server.port, HEAD + more + end + BODY)) == [status]


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD + b"x-large: " + b"a" * 40_000 + b"\r\n\r\n"],
        [HEAD + b"x-endless: ", *[b"a" * 1000] * 40],
        [b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n"],
        [b"GET /", *[b"a" * 1000] * 40],
        # Trailers are part of what surrounds a body.
        [HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx-endless: ", *[b"a" * 1000] * 40],
    ],
)
def test_a_head_that_is_too_large(start: Any, parts: list[bytes], read_all: Any) -> None:
    server = start(connections=QUICK)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.001)  # so that it does not come in one read
        assert statuses(read_all(connection)) == [431]


def test_trailers_are_not_headers(start: Any, talk: Any) -> None:
    server = start(keys=["secret"])
    chunks = b"transfer-encoding: chunked\r\nconnection: close\r\n\r\ne\r\n" + BODY + b"\r\n0\r\n"
    assert statuses(talk(server.port, HEAD + chunks + b"x-api-key: secret\r\n\r\n")) == [401]


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: identity\r\n\r\nabcde",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 5, 5\r\n\r\nabcde",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"x-folded: a\r\n b\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\0" * 100,
    ],
)
def test_malformed_requests(start: Any, talk: Any, ask: Any, request_bytes: bytes) -> None:
    server = start(connections=QUICK)
    assert statuses(talk(server.port, request_bytes)) == [400]
    # It comes after a request that is whole: that one has its answer, and only that.
    assert statuses(talk(server.port, REQUEST + request_bytes)) == [200]
    assert ask(server.port, "GET", "/livez").status == 200


def test_bodies_that_are_too_large(start: Any, ask: Any) -> None:
    server = start(limits=Limits(body=100_000))
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 100_000
    large = json.dumps({"inputs": "a" * 200_000}).encode()
    for body, headers in [
        (large, {}),
        (bomb, {"content-encoding": "gzip"}),
        (gzip.compress(large), {"content-encoding": "gzip"}),
    ]:
        answer = ask(server.port, "POST", "/embed", body, headers)
        assert (answer.status, "100000" in answer.json["error"]) == (413, True)
    fits = gzip.compress(json.dumps({"inputs": "a"}).encode())
    assert ask(server.port, "POST", "/embed", fits, {"content-encoding": "gzip"}).status == 200


def test_a_chunked_body_that_is_too_large(start: Any, talk: Any) -> None:
    server = start(limits=Limits(body=100_000), connections=QUICK)
    chunk = b"1000\r\n" + b"a" * 4096 + b"\r\n"
    whole = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk * 30 + b"0\r\n\r\n"
    # The connection goes on where the body was sent to its end, and otherwise it ends.
    last = REQUEST.replace(b"host: x", b"connection: close")
    assert statuses(talk(server.port, whole, last)) == [413, 200]
    assert statuses(talk(server.port, whole[:-5])) == [413]


def test_a_client_that_sends_on_sees_the_answer(start: Any, ask: Any) -> None:
    """It has sent far more than the sockets' buffers hold before it reads."""
    server = start(limits=Limits(body=1000))
    assert ask(server.port, "POST", "/embed", b" " * 20_000_000).status == 413


def test_expect_100_continue(start: Any, talk: Any) -> None:
    server = start(limits=Limits(body=1000), connections=QUICK)
    head = HEAD + b"expect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    assert statuses(talk(server.port, head % len(BODY), BODY)) == [100, 200]
    assert statuses(talk(server.port, head % 2000)) == [413]


def test_http_1_0(start: Any, talk: Any) -> None:
    server = start()
    assert statuses(talk(server.port, b"GET /health HTTP/1.0\r\n\r\n")) == [200]


def test_more_connections_than_allowed(start: Any, ask: Any, read_all: Any) -> None:
    server = start(connections=ConnectionLimits(connections=2, linger_seconds=0.2))
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address), socket.create_connection(address):
        answer = ask(server.port, "GET", "/health")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    deadline = time.monotonic() + 20
    while ask(server.port, "GET", "/health").status == 503:
        assert time.monotonic() < deadline


def test_a_client_that_does_not_read(start: Any) -> None:
    server = start(connections=QUICK)
    texts = {"inputs": ["the cat sat on the mat"] * 2000}
    body = json.dumps(texts).encode()
    request = HEAD.replace(b"/embed", b"/embed_all") + b"content-length: %d\r\n\r\n" % len(body)
    connection = socket.socket()
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request + body)
        deadline = time.monotonic() + 30
        while server.listener._state.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not server.listener._state.connections


def test_a_client_that_goes_away(start: Any, ask: Any) -> None:
    server = start()
    for _ in range(10):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(REQUEST)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert ask(server.port, "POST", "/embed", {"inputs": "a"}).status == 200
