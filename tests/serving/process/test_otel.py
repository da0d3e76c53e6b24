"""`--otel`: what a collector receives from the command, and what happens without one."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(BaseHTTPRequestHandler):
    """Keeps what is sent to it."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        Collector.received.append((self.path, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    """The URL of a collector."""
    Collector.received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_collector_receives_all_at_the_end(
    serve: Any, ask: Any, embedder: Path, collector: str
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    process = serve(embedder, "--otel", environment=environment)
    process.wait_until_ready()
    trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    assert ask(process.port, "POST", "/embed", {"inputs": "secret"}, trace).status == 200
    process.stop()
    assert process.wait() == (0, "")

    [spans] = [body for path, body in Collector.received if path == "/v1/traces"]
    [group] = ExportTraceServiceRequest.FromString(spans).resource_spans
    attributes = {one.key: one.value.string_value for one in group.resource.attributes}
    assert attributes["service.name"] == "bertrt"
    assert attributes["deployment.environment.name"] == "test"
    found = group.scope_spans[0].spans
    assert sorted(span.name for span in found) == ["POST /embed", "infer", "queue", "tokenize"]
    assert {span.trace_id.hex() for span in found} == {TRACE}
    last = [body for path, body in Collector.received if path == "/v1/metrics"][-1]
    [measured] = ExportMetricsServiceRequest.FromString(last).resource_metrics
    [metric] = measured.scope_metrics[0].metrics
    assert metric.name == "http.server.request.duration"
    assert [point.count for point in metric.histogram.data_points] == [1]
    assert not any(b"secret" in body for _, body in Collector.received)


def test_the_variables_name_the_service_and_what_is_sent(
    serve: Any, ask: Any, embedder: Path, collector: str
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_METRICS_EXPORTER": "none",
    }
    process = serve(embedder, "--otel", environment=environment)
    process.wait_until_ready()
    assert ask(process.port, "POST", "/embed", {"inputs": "a"}).status == 200
    process.stop()
    assert process.wait() == (0, "")
    [(path, body)] = Collector.received
    assert path == "/v1/traces"
    [group] = ExportTraceServiceRequest.FromString(body).resource_spans
    attributes = {one.key: one.value.string_value for one in group.resource.attributes}
    assert attributes["service.name"] == "mine"


def test_a_collector_that_is_not_there_harms_nothing(serve: Any, ask: Any, embedder: Path) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    process = serve(embedder, "--otel", environment=environment)
    process.wait_until_ready()
    for _ in range(5):
        assert ask(process.port, "POST", "/embed", {"inputs": "a"}).status == 200
    process.stop()
    assert process.wait()[0] == 0


def test_the_variables_alone_turn_nothing_on(
    serve: Any, ask: Any, embedder: Path, collector: str
) -> None:
    process = serve(embedder, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector})
    process.wait_until_ready()
    assert ask(process.port, "POST", "/embed", {"inputs": "a"}).status == 200
    process.stop()
    assert process.wait() == (0, "")
    assert Collector.received == []


def test_a_protocol_that_is_not_sent_is_status_2(serve: Any, embedder: Path) -> None:
    process = serve(embedder, "--otel", environment={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert process.wait() == (
        2,
        "bertrt: error: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc': bertrt sends http/protobuf\n",
    )


def test_it_is_imported_only_when_it_is_asked_for() -> None:
    code = (
        "import sys, bertrt.cli.serve, bertrt.cli.build_server\n"
        "print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


def test_the_missing_extra_is_one_sentence(bertrt_without: Any, embedder: Path) -> None:
    done = bertrt_without("opentelemetry", "serve", embedder, "--otel")
    assert done.returncode == 1
    assert "pip install 'bertrt[otel]'" in done.stderr
    assert done.stderr.count("\n") == 1
