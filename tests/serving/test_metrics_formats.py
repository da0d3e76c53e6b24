"""Both formats of the metrics, and TEI's names, read by the parsers of Prometheus's own client."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.metrics import Metrics
from bertrt.serving.models import Models
from bertrt.serving.prometheus import OPEN_METRICS, TEXT, Counter, Gauge, choose_format, render

# What Prometheus 3 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PARSERS = {TEXT: parse_text, OPEN_METRICS: parse_open}

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str, content_type: str) -> Series:
    """The samples that Prometheus's client reads; it puts "_total" behind TEI's counters."""
    return {
        (
            re.sub("^(te_.*)_total$", r"\1", sample.name),
            frozenset(sample.labels.items()),
        ): sample.value
        for family in PARSERS[content_type](text)
        for sample in family.samples
    }


@pytest.fixture
def client(served: Callable[[str], Any], make_client: Callable[[Any], Any]) -> Any:
    """A client of two models, with TEI's metrics, that has sent requests of every kind."""
    models = Models([served(name) for name in ("embedder", "reranker")])
    context = Context(models, Limits(inputs=5), metrics=Metrics(with_tei=True))
    client = make_client(App(context))
    for path, body, status in [
        ("/embed", {"inputs": "a"}, 200),
        ("/embed", {"inputs": ["a", "the cat"]}, 200),
        ("/v1/embeddings", {"input": ["a", "b", "c"]}, 200),
        ("/rerank", {"query": "a", "texts": ["a", "b"]}, 200),
        ("/predict", {"inputs": "a"}, 200),
        ("/embed", {"inputs": ["a"] * 6}, 422),
        ("/models/embedder/tokenize", {"inputs": "a"}, 200),
        ("/models/embedder/decode", {"ids": [5]}, 200),
        ("/embed", b"{", 400),
    ]:
        assert client.post(path, body).status == status
    assert client.get("/models/reranker/info").status == 200
    return client


def metrics(client: Any, accept: str = "") -> Series:
    """The samples that a client gets."""
    answer = client.get("/metrics", accept=accept)
    return read(answer.body.decode(), answer.headers["content-type"])


def test_both_formats_hold_the_same(client: Any) -> None:
    text, opened = client.get("/metrics"), client.get("/metrics", accept=PROMETHEUS)
    assert text.headers["content-type"] == TEXT
    assert opened.headers["content-type"] == OPEN_METRICS
    assert opened.body.endswith(b"\n# EOF\n")
    assert b"# TYPE bertrt_requests counter\n" in opened.body
    assert b"# TYPE bertrt_requests_total counter\n" in text.body
    first, second = read(text.body.decode(), TEXT), read(opened.body.decode(), OPEN_METRICS)
    assert first.keys() <= second.keys()
    changing = ("process_", "bertrt_requests", "bertrt_request_duration")
    for key in first.keys() & second.keys():
        if not key[0].startswith(changing):
            assert first[key] == second[key]


def test_every_route_of_a_model_has_its_name(client: Any) -> None:
    samples = metrics(client)
    for route, model in [("/tokenize", "embedder"), ("/decode", "embedder"), ("/info", "reranker")]:
        labels = {"route": route, "model": model, "status": "200"}
        assert samples["bertrt_requests_total", frozenset(labels.items())] == 1
    refused = {"route": "/embed", "model": "embedder", "status": "422"}
    assert samples["bertrt_requests_total", frozenset(refused.items())] == 1


def test_the_names_of_tei(client: Any) -> None:
    samples = metrics(client, PROMETHEUS)

    def value(name: str, **labels: str) -> float:
        return samples[name, frozenset(labels.items())]

    embedder, reranker = {"model": "embedder"}, {"model": "reranker"}
    # One that was refused has a model, and the one that is no JSON has none.
    assert value("te_request_count", method="single", **embedder) == 2
    assert value("te_request_success", method="single", **embedder) == 1
    assert value("te_request_success", method="batch", **embedder) == 2
    assert value("te_request_count", method="batch", **reranker) == 1
    assert value("te_request_count", method="single", **reranker) == 1
    assert value("te_embed_count", **embedder) == 4
    assert value("te_embed_success", **embedder) == 3
    assert value("te_predict_success", **reranker) == 2
    assert ("te_predict_count", frozenset(embedder.items())) not in samples
    assert value("te_request_failure", err="validation", **embedder) == 1
    assert value("te_request_failure", err="validation", model="") == 1
    assert value("te_request_failure", err="overloaded", **embedder) == 0
    assert value("te_request_duration_count", **embedder) == 4
    for stage in ("tokenization", "queue", "inference"):
        own = value(f"bertrt_{stage}_duration_seconds_sum", **embedder)
        for kind in ("request", "embed"):
            assert value(f"te_{kind}_{stage}_duration_count", **embedder) == 3
            assert value(f"te_{kind}_{stage}_duration_sum", **embedder) == own
            last = value(f"te_{kind}_{stage}_duration_bucket", le="+Inf", **embedder)
            assert last == 3
    tokens = value("bertrt_tokens_total", **embedder)
    assert value("te_request_input_length_sum", **embedder) == tokens > 0
    assert value("te_queue_size", **embedder) == 0
    for name in ("size", "tokens"):
        assert value(f"te_batch_next_{name}_count", **reranker) > 0


def test_the_names_of_tei_are_an_option(
    served: Callable[[str], Any], make_client: Callable[[Any], Any]
) -> None:
    samples = metrics(make_client(App(Context(Models([served("embedder")]), Limits()))))
    assert not [name for name, _ in samples if name.startswith("te_")]


def test_what_has_not_been_counted_is_there_at_0() -> None:
    names = Metrics(with_tei=True)
    names.expect(routes=["/embed"], models=["m"])
    for content_type in (TEXT, OPEN_METRICS):
        samples = read(names.text(Models([]), False, content_type), content_type)
        for method in ("single", "batch"):
            labels = frozenset({"method": method, "model": "m"}.items())
            assert samples["te_request_count", labels] == 0
        assert samples["te_queue_size", frozenset({("model", "m")})] == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/html, */*;q=0.1", TEXT),
        ("application/openmetrics-text", OPEN_METRICS),
        ("application/openmetrics-text; version=1.0.0", OPEN_METRICS),
        ("Application/OpenMetrics-Text;version=1.0.0;q=0.5,text/plain;q=0.4", OPEN_METRICS),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.4", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=none", TEXT),
        ("application/openmetrics-textual", TEXT),
        (PROMETHEUS, OPEN_METRICS),
    ],
)
def test_choice_of_the_format(accept: str, expected: str) -> None:
    assert choose_format(accept) == expected


def test_odd_labels_and_numbers_in_both_formats() -> None:
    odd = 'quote " backslash \\ line\nend'
    counter = Counter("odd_total", "Odd.", ["label"])
    counter.add(0.5, odd)
    gauge = Gauge("small", "Small.", lambda: [((odd,), 1e-9)], ["label"])
    for content_type in PARSERS:
        samples = read(render([counter, gauge], content_type), content_type)
        assert samples["odd_total", frozenset({("label", odd)})] == 0.5
        assert samples["small", frozenset({("label", odd)})] == 1e-9
