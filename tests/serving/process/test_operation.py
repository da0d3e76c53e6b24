"""What an operator sees: a port for metrics, keys for them, and answers of the protocol's own."""

import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bertrt.serving.protocol import ConnectionLimits

TEXTS = {"inputs": ["a", "the cat"]}
PROBES = ("/livez", "/readyz", "/health", "/ping")


def counts(body: bytes, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric above 0, by the values of some labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == name and sample.value
    }


def test_metrics_have_a_port_of_their_own(serve: Any, ask: Any, embedder: Path) -> None:
    process = serve(embedder, "--metrics-port", 0, "--drain-delay", 1)
    line = process.wait_until_ready()
    port = int(line["metrics_url"].rpartition(":")[2])
    assert port != process.port
    for path in PROBES:
        assert ask(process.port, "GET", path).status == ask(port, "GET", path).status == 200
    assert ask(process.port, "GET", "/metrics").status == 404
    for method, path in [("POST", "/embed"), ("GET", "/info"), ("GET", "/"), ("GET", "/v2")]:
        assert ask(port, method, path, TEXTS).status == 404
    assert ask(process.port, "POST", "/embed", TEXTS).status == 200
    found = counts(ask(port, "GET", "/metrics").body, "bertrt_requests_total", "route", "status")
    assert found["/embed", "200"] == 1
    assert found["none", "404"] == 5

    process.stop()
    while ask(port, "GET", "/readyz").status == 200:
        pass
    assert b"bertrt_ready 0\n" in ask(port, "GET", "/metrics").body
    assert process.wait() == (0, "")
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/livez")


def test_the_metrics_port_answers_while_a_request_drains(
    serve: Any, ask: Any, read_all: Any, embedder: Path
) -> None:
    """The server's own port is closed then, and a scraper still sees the end of it."""
    process = serve(embedder, "--metrics-port", 0, "--drain-timeout", 20)
    port = int(process.wait_until_ready()["metrics_url"].rpartition(":")[2])
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 14\r\n\r\n"
    with socket.create_connection(("127.0.0.1", process.port), timeout=20) as connection:
        connection.sendall(head)
        while not counts(ask(port, "GET", "/metrics").body, "process_open_fds"):
            pass
        process.stop()
        while True:
            try:
                ask(process.port, "GET", "/livez")
            except ConnectionRefusedError:
                break
        assert ask(port, "GET", "/livez").status == 200
        assert ask(port, "GET", "/readyz").status == 503
        connection.sendall(b'{"inputs":"a"}')
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    assert process.wait() == (0, "")


def test_a_unix_socket_with_a_port_for_metrics(
    serve: Any, ask: Any, embedder: Path, tmp_path: Path
) -> None:
    process = serve(embedder, "--uds", tmp_path / "s", "--metrics-port", 0)
    line = process.wait_until_ready()
    assert line["url"] == f"unix:{tmp_path / 's'}"
    assert ask(int(line["metrics_url"].rpartition(":")[2]), "GET", "/metrics").status == 200


@pytest.mark.parametrize("own_port", [False, True])
def test_metrics_may_need_a_key(serve: Any, ask: Any, embedder: Path, own_port: bool) -> None:
    options = ["--metrics-port", "0"] if own_port else []
    process = serve(embedder, "--metrics-auth", *options, environment={"BERTRT_API_KEY": "key"})
    line = process.wait_until_ready()
    port = int(line.get("metrics_url", line["url"]).rpartition(":")[2])
    assert ask(port, "GET", "/metrics").status == 401
    assert ask(port, "GET", "/metrics", headers={"authorization": "Bearer kez"}).status == 401
    assert ask(port, "GET", "/metrics", headers={"authorization": "Bearer key"}).status == 200
    for path in PROBES:
        assert ask(port, "GET", path).status == 200


def test_a_key_for_metrics_needs_keys(serve: Any, embedder: Path) -> None:
    assert serve(embedder, "--metrics-auth").wait() == (
        2,
        "bertrt: error: --metrics-auth needs keys: give --api-key-file\n",
    )


def test_names_of_tei(serve: Any, ask: Any, embedder: Path) -> None:
    process = serve(embedder, "--tei-metrics")
    process.wait_until_ready()
    assert ask(process.port, "POST", "/embed", TEXTS).status == 200
    series = f'te_request_success{{method="batch",model="{embedder.name}"}} 1\n'
    assert series.encode() in ask(process.port, "GET", "/metrics").body


def test_what_the_protocol_answers_is_counted(start: Any, ask: Any, talk: Any) -> None:
    quick = ConnectionLimits(connections=3, head_seconds=0.3, linger_seconds=0.1)
    server = start(connections=quick)
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\n"
    whole = head + b"connection: close\r\ncontent-length: 14\r\n\r\n" + b'{"inputs":"a"}'
    for sent, status in [
        (b"NONSENSE\r\n\r\n", 400),
        (head, 408),
        (head + b"x: a\r\n" * 101, 431),
        (head + b"x: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (whole + b"NONSENSE\r\n\r\n", 200),
    ]:
        assert talk(server.port, sent).startswith(b"HTTP/1.1 %d " % status)
    address = ("127.0.0.1", server.port)
    with (
        socket.create_connection(address) as one,
        socket.create_connection(address),
        socket.create_connection(address),
    ):
        assert talk(server.port).startswith(b"HTTP/1.1 503 ")
        one.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b""
        while part := one.recv(1 << 16):
            answer += part
    body = answer.partition(b"\r\n\r\n")[2]
    found = counts(body, "bertrt_requests_total", "route", "model", "status")
    assert {key: count for key, count in found.items() if key[0] == "none"} == {
        ("none", "", "400"): 1,
        ("none", "", "408"): 1,
        ("none", "", "431"): 2,
        ("none", "", "503"): 1,
    }
    assert found["/embed", "emb", "200"] == 1
    assert counts(body, "bertrt_rejected_total", "model", "reason") == {
        ("", "invalid"): 1,
        ("", "deadline"): 1,
        ("", "too_large"): 2,
        ("", "full"): 1,
    }
