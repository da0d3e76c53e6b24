"""Traces and metrics of requests, as OpenTelemetry's own SDK collects them."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from bertrt.errors import InputError
from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.models import Models
from bertrt.serving.telemetry import Telemetry

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KEY, TEXT = "the-key", "secret text"


class Collected:
    """An application whose requests are described, and what the SDK has collected."""

    def __init__(self, model: Any, make_client: Callable[[Any], Any], **options: Any) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        traces = TracerProvider(**options)
        traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.telemetry = Telemetry(traces, MeterProvider([self._reader]), "http")
        context = Context(Models([model]), Limits())
        app = App(context, [KEY], on_finished=self.telemetry.describe)
        self._client = make_client(app)

    def ask(self, path: str, body: Any, **headers: str) -> list[Any]:
        """Post a request, and return its spans in the order in which they began."""
        self._exporter.clear()
        self._client.post(path, body, **{"authorization": KEY, **headers})
        spans = self._exporter.get_finished_spans()
        return sorted(spans, key=lambda span: (span.start_time, span.kind != SpanKind.SERVER))

    def get(self, path: str) -> list[Any]:
        """Get a path, and return the spans."""
        self._exporter.clear()
        self._client.get(path, authorization=KEY)
        return list(self._exporter.get_finished_spans())

    def durations(self) -> dict[tuple[Any, ...], Any]:
        """The points of the metric, by method, route and status."""
        data = self._reader.get_metrics_data()
        [metric] = data.resource_metrics[0].scope_metrics[0].metrics
        assert (metric.name, metric.unit) == ("http.server.request.duration", "s")
        names = ("http.request.method", "http.route", "http.response.status_code")
        return {
            tuple(point.attributes.get(name) for name in names): point
            for point in metric.data.data_points
        }


@pytest.fixture
def collected(
    served: Callable[[str], Any], make_client: Callable[[Any], Any]
) -> Callable[..., Collected]:
    """A factory: options of the SDK's tracer provider to an application and what it collects."""
    return lambda **options: Collected(served("embedder"), make_client, **options)


def test_the_spans_of_a_request(collected: Any) -> None:
    app = collected()
    trace = f"00-{TRACE}-{PARENT}-01"
    server, *stages = app.ask("/embed", {"inputs": [TEXT, "b"]}, traceparent=trace)
    assert (server.name, server.kind) == ("POST /embed", SpanKind.SERVER)
    assert dict(server.attributes) == {
        "http.request.method": "POST",
        "http.route": "/embed",
        "http.response.status_code": 200,
        "url.path": "/embed",
        "url.scheme": "http",
        "bertrt.model": "embedder",
    }
    assert f"{server.context.trace_id:032x}" == TRACE
    assert f"{server.parent.span_id:016x}" == PARENT
    assert server.parent.is_remote
    assert server.status.status_code is StatusCode.UNSET
    assert [span.name for span in stages] == ["tokenize", "queue", "infer"]
    ends = [server.start_time]
    for span in stages:
        assert span.parent.span_id == server.context.span_id
        assert span.context.trace_id == server.context.trace_id
        assert ends[-1] <= span.start_time <= span.end_time <= server.end_time
        ends.append(span.end_time)
    # Each begins where the one before it has ended.
    assert [span.start_time for span in stages[1:]] == ends[1:-1]
    assert ends[-1] > ends[0]


def test_a_model_in_the_path_is_no_part_of_the_name(collected: Any) -> None:
    app = collected()
    for path, route in [
        ("/models/embedder/embed", "/embed"),
        ("/v2/models/embedder/infer", "/v2/models/*/infer"),
        ("/v1/models/embedder", "/v1/models/*"),
    ]:
        server = (app.get(path) if "/v1" in path else app.ask(path, {"inputs": "a"}))[0]
        assert server.attributes["http.route"] == server.attributes["url.path"] == route
        assert server.name.endswith(f" {route}")


def test_a_request_without_a_route_has_no_path(collected: Any) -> None:
    app = collected()
    [span] = app.ask(f"/{TEXT}", {})
    assert span.name == "POST"
    assert not {"http.route", "url.path", "bertrt.model"} & set(span.attributes)
    assert span.attributes["http.response.status_code"] == 404
    assert span.status.status_code is StatusCode.UNSET


def test_a_fault_of_the_server_is_an_error(collected: Any, monkeypatch: Any) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(TEXT)

    app = collected()
    monkeypatch.setattr("bertrt.serving.models.Model.answer", fail)
    [span] = app.ask("/embed", {"inputs": TEXT})
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "500"
    assert not span.events
    [point] = app.durations().values()
    assert point.attributes["error.type"] == "500"


def test_the_metric(collected: Any) -> None:
    app = collected()
    for _ in range(3):
        app.ask("/embed", {"inputs": TEXT})
    app.ask("/embed", b"{")
    app.get("/livez")
    points = app.durations()
    assert {key: point.count for key, point in points.items()} == {
        ("POST", "/embed", 200): 3,
        ("POST", "/embed", 400): 1,
        ("GET", "/livez", 200): 1,
    }
    point = points["POST", "/embed", 200]
    assert 0 < point.sum < 60
    assert 0.005 in point.explicit_bounds
    assert point.attributes["url.scheme"] == "http"


def test_probes_have_no_span(collected: Any) -> None:
    app = collected()
    for path in ("/livez", "/readyz", "/health", "/ping", "/metrics"):
        assert app.get(path) == []
    assert len(app.get("/info")) == 1


def test_nothing_of_a_text_or_a_key_is_sent(collected: Any) -> None:
    app = collected()
    for path, body in [
        ("/embed", {"inputs": TEXT}),
        ("/embed", {"inputs": TEXT, "truncate": TEXT}),
        (f"/models/{TEXT}/embed", {"inputs": TEXT}),
        (f"/{TEXT}", {}),
        (f"/v2/models/{TEXT}/infer", {}),
        ("/embed", TEXT.encode()),
    ]:
        for span in app.ask(path, body, baggage=f"a={TEXT}", user_agent=TEXT):
            shown = span.to_json()
            assert TEXT not in shown
            assert KEY not in shown
    for point in app.durations().values():
        assert TEXT not in str(point)


@pytest.mark.parametrize("trace", ["", "nonsense", f"00-{TRACE}-{'0' * 16}-01", "é" * 55])
def test_a_damaged_trace_is_none(collected: Any, trace: str) -> None:
    server = collected().ask("/embed", {"inputs": "a"}, traceparent=trace)[0]
    assert server.parent is None


def test_what_is_not_sampled_is_not_described(collected: Any) -> None:
    app = collected(sampler=ALWAYS_OFF)
    assert app.ask("/embed", {"inputs": "a"}) == []
    assert len(app.durations()) == 1
    # The caller has decided that its trace is not kept.
    trace = f"00-{TRACE}-{PARENT}-00"
    assert collected().ask("/embed", {"inputs": "a"}, traceparent=trace) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
    ],
)
def test_what_cannot_be_sent_is_refused(monkeypatch: Any, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{name} is '{value}': bertrt sends "):
        Telemetry.from_environment("http")
