"""What fails in Ray Serve when a replica dies, is full, drains, or is ill."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import serve
from ray.exceptions import RayError

import bertrt
import bertrt.ray
from bertrt.ray.replica import Replica
from ray_serve import (
    EMBEDDER,
    TEXTS,
    Load,
    ask,
    check_answers,
    check_failures,
    delete_applications,
    eventually,
    local_cluster,
    replica_processes,
)

# A request that takes a while, however busy the machine is, and has the time.
LONG = {"inputs": ["cat dog sun " * 40] * 500}
PATIENT = {"request_timeout": 600, "drain_timeout": 600}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of Serve on a cluster of one node."""
    with local_cluster() as address:
        yield address


@pytest.fixture
def url(cluster: str) -> Iterator[str]:
    """The same; what a test has deployed is deleted."""
    yield cluster
    delete_applications()


def test_kill_9_of_a_replica(url: str, vectors: np.ndarray) -> None:
    serve.run(bertrt.ray.app(EMBEDDER, num_replicas=2))
    before = replica_processes("bertrt")
    assert len(before) == 2
    with Load(url, TEXTS) as load:
        load.wait_for(40)
        killed = time.monotonic()
        os.kill(before[0], signal.SIGKILL)
        load.wait_for(100)
        # Ray starts another one.
        eventually(lambda: set(replica_processes("bertrt")) - set(before) and _running() == 2)
        load.wait_for(40)
    check_failures(load, killed)
    check_answers(load, vectors)


def _running() -> int:
    [deployment] = serve.status().applications["default"].deployments.values()
    return deployment.replica_states.get("RUNNING", 0)


def test_a_full_queue(url: str) -> None:
    serve.run(bertrt.ray.app(EMBEDDER, max_waiting_texts=500, **PATIENT))
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(ask, f"{url}/embed", LONG)
        eventually(lambda: _waiting(url) > 100)
        answer = ask(f"{url}/embed", {"inputs": ["a"] * 500})
        assert long.result().status == 200
    assert answer.status == 429
    assert answer.json["error_type"] == "Overloaded"
    assert int(answer.header("retry-after")[0]) >= 1
    assert int(answer.header("retry-after-ms")[0]) >= 1
    assert ask(f"{url}/embed", {"inputs": ["a"] * 501}).status == 413


def test_more_requests_than_may_queue(url: str) -> None:
    serve.run(bertrt.ray.app(EMBEDDER, max_ongoing_requests=1, max_queued_requests=1, **PATIENT))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(f"{url}/embed", LONG), range(8)))
    statuses = sorted(answer.status for answer in answers)
    assert set(statuses) == {200, 429}, statuses
    assert statuses.count(200) >= 2
    assert all(answer.header("retry-after") == ["1"] for answer in answers if answer.status == 429)
    assert ask(f"{url}/embed", {"inputs": "a"}).status == 200


def test_a_replica_finishes_what_it_has_when_it_is_replaced(url: str, vectors: np.ndarray) -> None:
    serve.run(bertrt.ray.app(EMBEDDER, **PATIENT))
    old = replica_processes("bertrt")
    with ThreadPoolExecutor(1) as pool, Load(url, TEXTS, clients=2) as load:
        load.wait_for(10)
        long = pool.submit(ask, f"{url}/embed", LONG)
        eventually(lambda: _waiting(url) > 100)
        serve.run(bertrt.ray.app(EMBEDDER, max_inputs=600, **PATIENT))
        load.wait_for(10)
        assert long.result().status == 200
    assert all(one.answer.status == 200 for one in load.sent)
    check_answers(load, vectors)
    eventually(lambda: not set(old) & set(replica_processes("bertrt")))


def test_a_version_that_cannot_start(url: str, vectors: np.ndarray, tmp_path: Path) -> None:
    """Of two replicas the one that is not replaced yet keeps answering."""
    serve.run(bertrt.ray.app(EMBEDDER, num_replicas=2, **PATIENT))
    with Load(url, TEXTS, clients=2) as load:
        load.wait_for(10)
        with pytest.raises(RuntimeError):
            serve.run(bertrt.ray.app(tmp_path / "nowhere", num_replicas=2, **PATIENT))
        load.wait_for(10)
    assert all(one.answer.status == 200 for one in load.sent)
    check_answers(load, vectors)


def test_a_replica_whose_thread_has_died_is_replaced(url: str, vectors: np.ndarray) -> None:
    # Within a function, since replicas cannot import this file.
    class Ill(Replica):
        """A replica whose worker a test can break."""

        async def fall_ill(self) -> int:
            def die(*_: object, **__: object) -> None:
                raise MemoryError

            [model] = self._context.models
            model.batcher._queue.take = die
            return os.getpid()

    deployment = serve.deployment(name="ill", health_check_period_s=1)(Ill)
    handle = serve.run(deployment.bind(EMBEDDER), name="ill", route_prefix=None)
    np.testing.assert_allclose(
        handle.embed.remote(TEXTS[0], normalize=True).result(), vectors[0], atol=1e-5
    )
    pid = handle.fall_ill.remote().result()
    # The worker waits in the function that was replaced, and dies after what that returns.
    handle.embed.remote(TEXTS[1], normalize=True).result()
    with pytest.raises((bertrt.BertrtError, RayError)):  # the latter once Ray has replaced it
        handle.embed.remote(TEXTS[1], normalize=True).result()

    def answered() -> Any:
        try:
            return handle.embed.remote(TEXTS[2], normalize=True).result()
        except (bertrt.BertrtError, RayError):
            return None

    found = eventually(lambda: (vector := answered()) is not None and [vector])
    np.testing.assert_allclose(found[0], vectors[2], atol=1e-5)
    assert handle.fall_ill.remote().result() != pid


def test_who_hangs_up_frees_the_queue(url: str) -> None:
    serve.run(bertrt.ray.app(EMBEDDER, **PATIENT))
    import socket

    host, port = url.removeprefix("http://").split(":")
    body = b'{"inputs":' + str(LONG["inputs"]).replace("'", '"').encode() + b"}"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        eventually(lambda: _waiting(url) > 100)
    started = time.monotonic()
    eventually(lambda: _waiting(url) == 0)
    gone = time.monotonic() - started
    started = time.monotonic()
    assert ask(f"{url}/embed", LONG).status == 200
    # All of it takes far longer than what was dropped.
    assert gone < time.monotonic() - started
    [counted] = _metric(url, 'bertrt_rejected_total{model="embedder",reason="disconnect"}')
    assert counted == 1


def _metric(url: str, name: str) -> list[float]:
    lines = ask(f"{url}/metrics").body.decode().splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)]


def _waiting(url: str) -> float:
    return sum(_metric(url, "bertrt_queue_texts{"))


def test_keys(url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    serve.run(bertrt.ray.app(EMBEDDER, api_key_file=str(keys)))
    assert ask(f"{url}/embed", {"inputs": "a"}).status == 401
    assert ask(f"{url}/health").status == 200
    assert ask(f"{url}/embed", {"inputs": "a"}, authorization="Bearer second").status == 200


def test_autoscaling(url: str) -> None:
    fast = {"max_replicas": 2, "target_ongoing_requests": 1, "upscale_delay_s": 0.5}
    serve.run(
        bertrt.ray.app(
            EMBEDDER,
            autoscaling={**fast, "look_back_period_s": 1, "metrics_interval_s": 0.5},
            **PATIENT,
        )
    )
    assert _running() == 1
    stopped = threading.Event()

    def ask_on() -> None:
        while not stopped.is_set():
            assert ask(f"{url}/embed", LONG).status == 200

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        try:
            eventually(lambda: _running() == 2, seconds=90)
        finally:
            stopped.set()
        for one in asking:
            one.result()
