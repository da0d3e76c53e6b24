"""Contenders that are servers: how they are started, asked, measured, stressed and ended."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contenders.http_servers import Api, HttpServer
from benchmarks.harness import http_stress, load_generator
from benchmarks.harness.process_usage import cpu_seconds, memory_bytes, processes_of

_SERVER = Path(__file__).parent / "http_server_for_tests.py"
_API = Api("/embed", lambda texts: {"inputs": list(texts)}, lambda answer: answer)


@pytest.fixture
def start():
    """Start servers that end with the test; the test's process keeps its CPUs."""
    cpus = os.sched_getaffinity(0)
    servers = []

    def start(behaviour):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = HttpServer([sys.executable, _SERVER, str(port), behaviour], port, _API)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()
    os.sched_setaffinity(0, cpus)


def test_a_server_is_a_loaded_model(start):
    server = start("right")
    texts = ["a", "bbb", "cc"]
    expected = [[1, 97], [3, 98], [2, 99]]
    np.testing.assert_array_equal(server.answer(texts), expected)
    served = load_generator.serve_live(server, texts, np.array([0.0, 0.01, 0.01, 0.02]))
    np.testing.assert_array_equal(served["answers"], [*expected, expected[0]])
    assert served["turned_away"] == []
    assert served["lag"] < 5
    # The server's CPU time comes in ticks of 10 ms, so it is given enough to do.
    busy = load_generator.measure_saturated(server, texts, 0.3, size=20_000, in_flight=3)
    assert busy["rate"] > 10
    assert busy["cpu"] > 0
    with pytest.raises(ValueError, match="texts, and not token ids"):
        server.run(np.zeros((1, 3)))


def test_requests_that_a_server_refuses_are_turned_away(start):
    server = start("full")
    server_asked = 1  # until it was ready
    served = load_generator.serve_live(server, ["a"], np.arange(4) / 20)
    assert served["turned_away"] == [i for i in range(4) if (i + server_asked) % 2]
    assert len(served["answers"]) == 2


def test_a_server_that_ends_at_once_is_an_error(start):
    with pytest.raises(RuntimeError, match="the server ended with status 3"):
        start("dies")


def test_the_usage_of_a_server_is_that_of_its_session(start):
    server = start("right")
    [pid] = processes_of(server._process.pid)
    assert pid == server._process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    resident = 1024 * int(status.partition("VmRSS:")[2].split()[0])
    # What it shares with others counts in part.
    assert 0.3 * resident < server.memory_bytes() <= 1.1 * resident
    before = server.cpu_seconds()
    server.answer(["a"] * 100_000)
    assert server.cpu_seconds() > before
    server.close()
    assert processes_of(pid) == []
    assert memory_bytes([pid]) == 0
    assert cpu_seconds(pid) == 0


def test_a_server_ends_with_its_worker():
    """Also when the worker is killed, and has no time to end it."""
    script = f"""
import sys; sys.path.insert(0, {str(_SERVER.parents[2])!r})
from benchmarks.contenders.http_servers import Api, HttpServer, free_port
port = free_port()
server = HttpServer([sys.executable, {str(_SERVER)!r}, str(port), "right"], port,
    Api("/embed", lambda texts: {{"inputs": list(texts)}}, lambda answer: answer))
print(server._process.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        pid = int(worker.stdout.readline())
        assert processes_of(pid) == [pid]
        worker.kill()
    for _ in range(100):
        if not processes_of(pid):
            break
        time.sleep(0.05)
    assert processes_of(pid) == []


def test_health_is_timed_while_requests_run(start):
    found = http_stress.health_under_load(start("right"), ["a" * 100] * 2000, 5)
    assert found["n"] > 0
    assert 0 < found["p50"] <= found["p99"] <= found["most"]


def test_refusals_are_those_of_a_full_queue(start):
    found = http_stress.refusals(start("full"), ["a"], 5)
    assert found["n"] >= 5


def test_memory_is_read_after_the_first_requests_and_at_the_end(start):
    found = http_stress.memory_growth(start("right"), ["a", "b"], 20, 300)
    assert found["n"] >= 300
    assert found["first"] > 1e6
    assert found["last"] > 1e6


def test_requests_that_a_server_drops_at_its_end_are_lost(start):
    server = start("drops")
    found = http_stress.terminated_under_load(server, ["a"] * 3, rate=400, seconds=1.0)
    assert found["status"] == 1
    assert found["answered"] > 50
    assert found["refused"] > 50
    # Those that were under way; the connections that are kept are closed, and that is a loss too.
    assert found["answered"] + found["refused"] + found["lost"] == 400


def test_a_server_that_ends_well_loses_nothing(start):
    found = http_stress.terminated_under_load(start("right"), ["a"], rate=50, seconds=1.0)
    assert found["status"] == 0


@pytest.mark.parametrize(("behaviour", "has_faults"), [("right", False), ("breaks", True)])
def test_malformed_requests_find_faults(start, behaviour, has_faults):
    found = http_stress.with_malformed_requests(start(behaviour), ["some text"], 200, 152, 500.0)
    assert found["malformed"] == 152
    assert found["answered"] > 75  # the others wait for the rest of a request
    assert (found["faults"] > 0) == has_faults
    assert found["failed"] == 0
    assert found["n"] == 60  # of the load, in four turns


def test_slow_clients_leave_the_others_their_answers(start, monkeypatch):
    monkeypatch.setattr(http_stress, "_RAMP_SECONDS", 0.1)
    found = http_stress.with_slow_clients(start("right"), ["a"], 32, 1.0, sockets=20)
    assert found["n"] == 32
    assert found["failed"] == 0
    assert found["p99_alone"] > 0
    assert found["p99"] > 0
