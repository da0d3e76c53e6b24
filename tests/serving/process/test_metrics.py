"""Metrics in Prometheus's text format, read by a parser of its own."""

import json
import math
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.serving.app import ROUTES
from bertrt.serving.context import Limits
from bertrt.serving.loading import open_model
from bertrt.serving.metrics import Metrics, rejection
from bertrt.serving.options import Options
from bertrt.serving.prometheus import Counter, Gauge, Histogram, render

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_0-9]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_0-9]+)="((?:[^"\\\n]|\\[\\"n])*)"')


def parse(text: str) -> tuple[Samples, dict[str, str]]:
    """The samples of a text, and the kind of each metric; fails where the format is not kept."""
    samples: Samples = {}
    kinds: dict[str, str] = {}
    helped = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split()[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name in helped
            assert name not in kinds
            kinds[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            family = re.sub("_(bucket|sum|count)$", "", found[1])
            assert (family if kinds.get(family) == "histogram" else found[1]) == list(kinds)[-1]
            labels = frozenset(LABEL.findall(found[2] or ""))
            assert (found[1], labels) not in samples
            samples[found[1], labels] = float(found[3])
    return samples, kinds


def value(samples: Samples, name: str, **labels: str) -> float:
    """A sample's value."""
    return samples[name, frozenset(labels.items())]


def check_histograms(samples: Samples, kinds: dict[str, str]) -> None:
    """Buckets grow, and the last one is the count."""
    for name, kind in kinds.items():
        if kind != "histogram":
            continue
        series: dict[frozenset[tuple[str, str]], dict[float, float]] = {}
        for (found, labels), count in samples.items():
            if found == f"{name}_bucket":
                bound = float(dict(labels)["le"])
                rest = frozenset(pair for pair in labels if pair[0] != "le")
                series.setdefault(rest, {})[bound] = count
        assert series
        for rest, buckets in series.items():
            counts = [buckets[bound] for bound in sorted(buckets)]
            assert counts == sorted(counts)
            assert max(buckets) == math.inf
            assert samples[f"{name}_count", rest] == counts[-1]


@pytest.fixture
def read(ask: Any) -> Callable[[int], Samples]:
    """Read a server's metrics."""

    def read(port: int) -> Samples:
        answer = ask(port, "GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        samples, kinds = parse(answer.body.decode())
        check_histograms(samples, kinds)
        return samples

    return read


def test_all_series_exist_at_the_start(start: Any, read: Any) -> None:
    samples = read(start().port)
    posted = [path for method, path in ROUTES if method == "POST"]
    assert len(posted) > 10
    for path in posted:
        labels = {"route": path, "model": "emb"}
        assert value(samples, "bertrt_requests_total", status="200", **labels) == 0
        assert value(samples, "bertrt_request_duration_seconds_count", **labels) == 0
        assert value(samples, "bertrt_request_duration_seconds_bucket", le="0.0005", **labels) == 0
    for name in (
        "bertrt_queue_duration_seconds_count",
        "bertrt_tokenization_duration_seconds_count",
        "bertrt_inference_duration_seconds_count",
        "bertrt_batch_texts_count",
        "bertrt_batch_tokens_count",
        "bertrt_input_tokens_count",
        "bertrt_truncated_total",
        "bertrt_tokens_total",
        "bertrt_padding_tokens_total",
        "bertrt_queue_texts",
        "bertrt_queue_tokens",
        "bertrt_in_flight_requests",
    ):
        assert value(samples, name, model="emb") == 0
    for reason in ("full", "too_large", "deadline", "disconnect", "draining", "invalid", "auth"):
        for model in ("", "emb"):
            assert value(samples, "bertrt_rejected_total", model=model, reason=reason) == 0
    assert value(samples, "bertrt_ready") == 1
    assert value(samples, "process_cpu_seconds_total") > 0
    assert value(samples, "process_resident_memory_bytes") > 1e6


def test_known_requests_are_counted(start: Any, ask: Any, read: Any, embedder: Path) -> None:
    server = start(keys=["k"], limits=Limits(inputs=3, body=1000))
    key = {"x-api-key": "k"}
    texts = {"inputs": ["a", "the cat"]}
    answers = [ask(server.port, "POST", "/embed", texts, key) for _ in range(3)]
    answers.append(ask(server.port, "POST", "/models/emb/embed", texts, key))
    assert [answer.status for answer in answers] == [200] * 4
    tokens = sum(int(answer.headers["x-compute-tokens"]) for answer in answers)
    for status, body, headers in [
        (401, texts, {}),
        (401, texts, {"x-api-key": "wrong"}),
        (413, {"inputs": "a" * 1000}, key),
        (422, {"inputs": ["a"] * 4}, key),
        (400, b"{", key),
    ]:
        assert ask(server.port, "POST", "/embed", body, headers).status == status
    for path in ("/nothing", "/nothing/else", "/models/x/nothing"):
        assert ask(server.port, "POST", path, texts, key).status == 404
    assert ask(server.port, "GET", "/v1/models/emb", None, key).status == 200
    assert ask(server.port, "GET", "/v1/models/other", None, key).status == 404

    samples = read(server.port)
    counted = {"route": "/embed", "model": "emb"}
    assert value(samples, "bertrt_requests_total", status="200", **counted) == 4
    # With the one of too many inputs.
    assert value(samples, "bertrt_requests_total", status="422", **counted) == 1
    assert value(samples, "bertrt_request_duration_seconds_count", **counted) == 5
    assert value(samples, "bertrt_requests_total", status="401", route="/embed", model="") == 2
    assert value(samples, "bertrt_requests_total", status="404", route="none", model="") == 3
    for status in ("200", "404"):
        labels = {"route": "/v1/models/*", "model": "", "status": status}
        assert value(samples, "bertrt_requests_total", **labels) == 1
    rejected = {
        (dict(labels)["model"], dict(labels)["reason"]): count
        for (name, labels), count in samples.items()
        if name == "bertrt_rejected_total" and count
    }
    assert sum(rejected.values()) == 9
    assert rejected["", "auth"] == 2
    assert rejected["", "too_large"] == 1
    assert value(samples, "bertrt_tokens_total", model="emb") == tokens
    assert value(samples, "bertrt_input_tokens_count", model="emb") == 4
    assert value(samples, "bertrt_input_tokens_sum", model="emb") == tokens
    for name in ("queue", "tokenization", "inference"):
        assert value(samples, f"bertrt_{name}_duration_seconds_count", model="emb") == 4
    manifest = json.loads((embedder / "bertrt.json").read_text())
    [info] = [dict(labels) for name, labels in samples if name == "bertrt_model_info"]
    assert (info["model"], info["dtype"]) == ("emb", "float32")
    assert info["weights_sha256"] in {file["sha256"] for file in manifest["files"]}
    routes = {dict(labels).get("route", "none") for _, labels in samples}
    assert routes <= {path for _, path in ROUTES} | {"none", "/v1/models/*"}


def test_batches_are_counted(start: Any, read: Any) -> None:
    server = start()
    [model] = server.context.models
    before = read(server.port)
    for batch in ((1, 5, 5, 0.1), (3, 40, 64, 0.2)):
        model.batcher.observe(*batch)
    after = read(server.port)

    def grown(name: str, **labels: str) -> float:
        both = [value(samples, name, model="emb", **labels) for samples in (before, after)]
        return both[1] - both[0]

    assert grown("bertrt_batch_texts_count") == 2
    assert grown("bertrt_batch_texts_sum") == 4
    assert grown("bertrt_batch_texts_bucket", le="1.0") == 1
    assert grown("bertrt_batch_texts_bucket", le="2.0") == 1
    assert grown("bertrt_batch_texts_bucket", le="4.0") == 2
    assert grown("bertrt_batch_tokens_sum") == 45
    assert grown("bertrt_padding_tokens_total") == 24


def test_metrics_while_models_are_loaded(start: Any, ask: Any, embedder: Path) -> None:
    loading, go = threading.Event(), threading.Event()

    def load() -> Any:
        loading.set()
        assert go.wait(60)
        return open_model("emb", embedder, Options(threads=1))

    server = start([load], wait=False)
    server.context.metrics.expect(models=["emb"])
    try:
        assert loading.wait(20)
        samples, _ = parse(ask(server.port, "GET", "/metrics").body.decode())
    finally:
        go.set()
    assert value(samples, "bertrt_ready") == 0
    assert value(samples, "bertrt_queue_texts", model="emb") == 0


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, None),
        (400, "invalid"),
        (401, "auth"),
        (408, "deadline"),
        (404, "invalid"),
        (413, "too_large"),
        (422, "invalid"),
        (424, "invalid"),
        (429, "full"),
        (431, "too_large"),
        (499, "disconnect"),
        (500, None),
        (503, "draining"),
        (504, "deadline"),
    ],
)
def test_reasons(status: int, reason: str | None) -> None:
    assert rejection(status) == reason


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram("sizes", "Sizes.", [1, 2, 4])
    for size in (0, 1, 1.5, 2, 4, 5):
        histogram.observe(size)
    samples, kinds = parse(render([histogram]))
    check_histograms(samples, kinds)
    counts = [value(samples, "sizes_bucket", le=bound) for bound in ("1.0", "2.0", "4.0", "+Inf")]
    assert counts == [2, 4, 5, 6]
    assert value(samples, "sizes_sum") == 13.5


def test_label_values_are_escaped() -> None:
    odd = 'quote " backslash \\ line\nend'
    counter = Counter("odd_total", "Odd.", ["label"])
    counter.add(0.5, odd)
    gauge = Gauge("odd", "Odd.", lambda: [((odd,), 1e-9)], ["label"])
    text = render([counter, gauge])
    assert len(text.splitlines()) == 6
    samples, _ = parse(text)
    escaped = r"quote \" backslash \\ line\nend"
    assert value(samples, "odd_total", label=escaped) == 0.5
    assert value(samples, "odd", label=escaped) == 1e-9


def test_counts_of_many_threads_are_exact() -> None:
    metrics = Metrics()
    metrics.expect(models=["m"])
    observe = metrics.observer("m")

    def count() -> None:
        for _ in range(2000):
            observe(2, 3, 5, 0.1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = render([metrics.batch_texts, metrics.padding])
    samples, _ = parse(text)
    assert value(samples, "bertrt_batch_texts_count", model="m") == 8000
    assert value(samples, "bertrt_padding_tokens_total", model="m") == 16_000
