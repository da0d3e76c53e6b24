"""A thread of a batcher dies: everyone is told, nobody waits, and the server still ends well."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bertrt.serving.loading import open_model
from bertrt.serving.options import Options

TEXTS = {"inputs": ["a", "the cat"]}
SECRET = "se" + "cret"


@pytest.fixture
def models(embedder: Path, classifier: Path) -> list[Any]:
    """Two models, of which the tests break the first."""
    options = Options(threads=1)
    return [open_model("emb", embedder, options), open_model("nli", classifier, options)]


def die(*_: object, **__: object) -> None:
    raise MemoryError(SECRET)


def check_dead(server: Any, ask: Any) -> None:
    """What is left of the server: probes see it, and the other model answers."""
    for path in ("/livez", "/readyz", "/health", "/v2/health/live", "/v2/health/ready"):
        assert ask(server.port, "GET", path).status == 503
    answer = ask(server.port, "POST", "/embed", TEXTS)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert b"secret" not in answer.body
    nli = ask(server.port, "POST", "/models/nli/predict", {"inputs": "a"})
    assert nli.status == 200
    metrics = ask(server.port, "GET", "/metrics").body.decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert found["bertrt_ready",] == 0
    assert found["bertrt_in_flight_requests", "emb"] == 0
    # It is no rejection: the server itself is at fault.
    assert found["bertrt_rejected_total", "emb", "draining"] == 0
    assert found["bertrt_requests_total", "/embed", "emb", "503"] >= 1


def test_a_dead_worker(start: Any, ask: Any, models: Any, caplog: pytest.LogCaptureFixture) -> None:
    batcher = models[0].batcher
    run, running, go = batcher._runner.run_batch, threading.Event(), threading.Event()

    def run_when_told(*arguments: Any, **options: Any) -> Any:
        running.set()
        assert go.wait(30)
        return run(*arguments, **options)

    batcher._runner.run_batch = run_when_told
    batcher._queue.end_batch = die
    server = start([lambda: models[0], lambda: models[1]])
    statuses: list[int] = []

    def send() -> None:
        statuses.append(ask(server.port, "POST", "/embed", TEXTS).status)

    clients = [threading.Thread(target=send) for _ in range(6)]
    for client in clients:
        client.start()
    assert running.wait(20)
    while models[0].in_flight < 6:
        pass
    assert ask(server.port, "GET", "/livez").status == 200
    go.set()
    for client in clients:
        client.join()
    assert statuses == [503] * 6
    check_dead(server, ask)
    server.stop()
    assert server.wait() is False
    # The log says what happened, once, and nothing of a text.
    [record] = [record for record in caplog.records if "has died" in record.getMessage()]
    assert "MemoryError" in record.getMessage()
    assert "end_batch" in record.getMessage()
    assert "secret" not in caplog.text


def test_a_dead_encoder(start: Any, ask: Any, models: Any, monkeypatch: Any) -> None:
    server = start([lambda: models[0], lambda: models[1]])
    assert ask(server.port, "POST", "/embed", TEXTS).status == 200
    monkeypatch.setattr(models[0].batcher._encoder, "_step", die)
    assert ask(server.port, "POST", "/embed", TEXTS).status == 503
    check_dead(server, ask)


@pytest.fixture(autouse=True)
def _close(models: Any) -> Iterator[None]:
    """Close the models even if a server did not come to it."""
    yield
    for model in models:
        model.runtime.close()
