"""The server under bad clients: malformed requests, slow ones, and those that hang up."""

import asyncio
import gc
import gzip
import json
import logging
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from typing import Any

import pytest

from bertrt.serving.protocol import ConnectionLimits

BODY = b'{"inputs":["the cat","a"],"truncate":true}'
HEAD = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n\r\n"
QUICK = ConnectionLimits(
    head_seconds=0.3, body_seconds=0.3, idle_seconds=1, write_seconds=0.3, linger_seconds=0.1
)
# What a request may be answered with whatever it holds: never a 500.
ALLOWED = {200, 400, 401, 404, 405, 408, 413, 415, 422, 424, 431}


# The body of a request for each path.
BODIES = {
    b"/embed": BODY,
    b"/v1/embeddings": b'{"input":["a","b"],"encoding_format":"base64","dimensions":3}',
    b"/tokenize": b'{"inputs":"the cat","add_special_tokens":false}',
    b"/decode": b'{"ids":[[5,6],[7]],"skip_special_tokens":true}',
    b"/similarity": b'{"inputs":{"source_sentence":"a","sentences":["b"]}}',
    b"/models/emb": b'{"inputs":"a","parameters":{}}',
    b"/v2/models/emb/infer": b'{"id":"7","inputs":[{"name":"text","datatype":"BYTES","shape":[1],'
    b'"data":["a"]}],"outputs":[{"name":"embedding"}]}',
}


def with_length(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """A request with a body and its length."""
    return HEAD % path + headers + LENGTH % len(body) + body


def valid_requests() -> list[bytes]:
    """Requests of several routes, framings and encodings."""
    chunk = b"%x\r\n%s\r\n" % (len(BODY), BODY)
    described = b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"parameters":'
    described += b'{"binary_data_size":5}}]}'
    length = b"inference-header-content-length: %d\r\n" % len(described)
    binary = described + struct.pack("<I", 1) + b"a"
    return [
        *(with_length(path, body) for path, body in BODIES.items()),
        *(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path for path in (b"/info", b"/v2", b"/")),
        HEAD % b"/embed" + b"transfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
        with_length(b"/embed", BODY, b"expect: 100-continue\r\n"),
        with_length(b"/embed", gzip.compress(BODY), b"content-encoding: gzip\r\n"),
        with_length(b"/v2/models/emb/infer", binary, length),
    ]


# What breaks parsers: ends of lines, framing, numbers, nesting, and bytes that are no text.
TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n\r\n", b"\xff", b"\xc3\xa9", b"%00"),
    *(b"content-length: 0\r\n", b"content-length: 99999999999999999999\r\n"),
    *(b"transfer-encoding: chunked\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n"),
    *(b"content-encoding: gzip\r\n", b"content-type: text/plain\r\n", b"expect: 100-continue\r\n"),
    *(
        b"-1",
        b"1e999",
        b"9" * 400,
        b"NaN",
        b"null",
        b"true",
        b'""',
        b"[" * 2000,
        b"{",
        b'"\\ud800"',
    ),
    *(b"/../", b"//", b"?", b"#", b"HTTP/1.0", b"HTTP/2.0", b"OPTIONS ", b"a" * 3000),
]


def mutate(random: random.Random, request: bytes) -> bytes:
    """Change a request in one to four places."""
    data = bytearray(request)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(5)
        if kind == 0:
            data[at : at + random.randint(1, 20)] = b""
        elif kind == 1:
            data[at:at] = random.choice(TOKENS)
        elif kind == 2:
            data[at : at + 1] = random.randbytes(1)
        elif kind == 3:
            end = at + random.randint(1, 40)
            data[at:at] = data[at:end]
        else:
            data[at : at + 4] = random.choice(TOKENS)
    return bytes(data)


# Values that a field does not expect.
VALUES = [
    *(None, True, -1, 0, 1.5, 1e300, 2**31, 2**63, -(2**63), 10**18, "", "a", "\0", "é" * 3000),
    *(
        [],
        {},
        [[]],
        [[[]]],
        ["a"] * 3000,
        [5] * 3000,
        [None],
        [["a", "b"]],
        {"a": 1},
        {"text": "a"},
    ),
]


def misfit(random: random.Random, value: Any) -> Any:
    """A JSON value in which one part, at any depth, is another value, gone, or there twice."""
    if not value or not isinstance(value, dict | list) or random.random() < 0.3:
        return random.choice(VALUES)
    changed = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    key = random.choice(list(changed))
    if random.random() < 0.1:
        del changed[key]
    else:
        changed[key] = misfit(random, changed[key])
    return changed if isinstance(value, dict) else [*changed.values()] * random.choice([1, 1, 2])


def malformed(random: random.Random) -> bytes:
    """A request of which anything is changed, the body alone, or a value in it."""
    path, body = random.choice(list(BODIES.items()))
    kind = random.randrange(3)
    if kind == 0:
        return mutate(random, random.choice(valid_requests()))
    if kind == 1:
        return with_length(path, mutate(random, body))
    return with_length(path, json.dumps(misfit(random, json.loads(body))).encode())


async def send(port: int, sent: bytes) -> list[int]:
    """Send bytes in two parts, and return the status of each answer until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in (sent[: len(sent) // 2], sent[len(sent) // 2 :]):
            writer.write(part)
            await writer.drain()
        received = await asyncio.wait_for(reader.read(), 30)
    except (ConnectionResetError, BrokenPipeError):
        received = b""
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d+) ", received, re.M)]


async def send_mutations(port: int, count: int, seed: int) -> dict[int, int]:
    """Send mutated requests, many at a time; return how often each status came."""
    generator = random.Random(seed)
    turns = asyncio.Semaphore(100)
    found: dict[int, int] = {}

    async def send_one(sent: bytes) -> None:
        async with turns:
            for status in await send(port, sent):
                found[status] = found.get(status, 0) + 1
                assert status in ALLOWED or status == 100, sent

    await asyncio.gather(*map(send_one, (malformed(generator) for _ in range(count))))
    return found


def test_malformed_requests_are_answered(
    start: Any, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(connections=QUICK)
    for request in valid_requests():
        assert asyncio.run(send(server.port, request))[-1] == 200
    with caplog.at_level(logging.WARNING):
        found = asyncio.run(send_mutations(server.port, 400, seed=7))
    # They reach both the parser of HTTP and the routes.
    assert {200, 400, 404, 408, 422} <= set(found)
    assert [record.getMessage() for record in caplog.records] == []
    assert ask(server.port, "GET", "/livez").status == 200
    _wait_until_idle(server)


def _wait_until_idle(server: Any) -> None:
    """Nothing is left of the connections and their requests."""
    deadline = time.monotonic() + 20
    while server.listener.is_busy:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_requests_go_on_while_others_send_a_byte_at_a_time(start: Any, ask: Any) -> None:
    limits = ConnectionLimits(head_seconds=1, linger_seconds=0.1)
    server = start(connections=limits)
    request = with_length(b"/embed", BODY)
    stopped, ended = threading.Event(), []

    def send_slowly() -> None:
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
        for byte in request:
            for connection in list(connections):
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    connections.remove(connection)
                    connection.close()
                    ended.append(connection)
            if not connections or stopped.wait(0.2):
                break
        for connection in connections:
            connection.close()

    slow = threading.Thread(target=send_slowly)
    slow.start()
    while slow.is_alive():
        answer = ask(server.port, "POST", "/embed", BODY)
        assert answer.status == 200
    slow.join()
    # Every one of them was cut, long before its head was complete.
    assert len(ended) == 50
    _wait_until_idle(server)


def test_clients_that_hang_up_at_every_byte(
    start: Any, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(connections=QUICK)
    request = with_length(b"/embed", BODY)
    for end in range(0, len(request) + 1, 3):
        for reset in (False, True):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(request[:end])
            if reset:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
    assert ask(server.port, "POST", "/embed", BODY).status == 200
    _wait_until_idle(server)
    [model] = server.context.models
    assert model.in_flight == 0
    assert model.batcher.load.waiting_texts == 0
    assert caplog.records == []


@pytest.mark.parametrize("paths", [[b"/embed"], [b"/embed", b"/nothing", b"/tokenize"]])
def test_pipelined_requests_are_answered_in_order(start: Any, talk: Any, paths: Any) -> None:
    server = start(connections=QUICK)
    order = [path for _ in range(40) for path in paths]
    bodies = {b"/tokenize": BODIES[b"/tokenize"]}
    sent = b"".join(with_length(path, bodies.get(path, BODY)) for path in order)
    received = talk(server.port, sent)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]
    assert statuses == [404 if path == b"/nothing" else 200 for path in order]


def test_a_client_that_hangs_up_leaves_no_pipelined_request(
    start: Any, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(connections=QUICK)
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(with_length(b"/embed", BODY) * 100)
    connection.close()
    assert ask(server.port, "POST", "/embed", BODY).status == 200
    _wait_until_idle(server)
    assert caplog.records == []


def test_memory_does_not_grow_with_requests(start: Any, talk: Any) -> None:
    """Objects, which is what a leak would be made of; sizes differ from run to run."""
    server = start(connections=QUICK)

    def count(requests: int) -> Counter[str]:
        asyncio.run(send_mutations(server.port, requests, seed=3))
        received = talk(server.port, with_length(b"/embed", BODY) * requests)
        assert received.count(b"HTTP/1.1 200 ") == requests
        _wait_until_idle(server)
        gc.collect()
        return Counter(str(type(one)) for one in gc.get_objects())

    count(50)
    before = count(50)
    grown = count(300) - before
    assert sum(grown.values()) < 300, grown.most_common(5)
