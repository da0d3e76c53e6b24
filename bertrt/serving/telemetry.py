"""OpenTelemetry: a span of each request with its stages, and how long requests take.

Names follow OpenTelemetry's semantic conventions for HTTP. A request is described when it is
finished, from the times that were measured anyway. Nothing of its texts, its address or its keys
is sent: routes are templates, and the only header that is read is the caller's trace.

This is the only module that imports `opentelemetry`, which `bertrt[otel]` brings.
"""

import os
import threading
import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bertrt._version import __version__
from bertrt.errors import InputError
from bertrt.serving.context import Answering, Finished
from bertrt.serving.metrics import NO_ROUTE

__all__ = ["Telemetry"]

# The methods that the conventions name; any other is "_OTHER".
_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT")
# Probes come every second, and a span of each would hide the others.
_WITHOUT_SPAN = ("/livez", "/readyz", "/health", "/ping", "/metrics")
# The conventions' bounds of `http.server.request.duration`, in seconds.
_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
# Seconds that the last spans have to be sent when the server ends.
_LAST = 5.0
_NANO = 1_000_000_000


class Telemetry:
    """Describes finished requests to OpenTelemetry."""

    def __init__(self, traces: TracerProvider, metrics: MeterProvider, scheme: str) -> None:
        """Describe requests that came by `scheme`, http or https, to these providers."""
        self._providers = (traces, metrics)
        self._scheme = scheme
        self._tracer = traces.get_tracer("bertrt", __version__)
        self._duration = metrics.get_meter("bertrt", __version__).create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )
        # The propagator of baggage logs what it cannot read, so it is used only if asked for.
        is_chosen = "OTEL_PROPAGATORS" in os.environ
        self._propagator = get_global_textmap() if is_chosen else TraceContextTextMapPropagator()

    @classmethod
    def from_environment(cls, scheme: str) -> "Telemetry":
        """Send OTLP by HTTP, as OpenTelemetry's own environment variables say.

        Raises InputError for another exporter or protocol in them.
        """
        resource = Resource.create().merge(
            Resource({"service.name": "bertrt", "service.version": __version__})
        )
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes last.
        resource = resource.merge(OTELResourceDetector().detect())
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        if _is_sent("TRACES"):
            traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers = []
        if _is_sent("METRICS"):
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        metrics = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        return cls(traces, metrics, scheme)

    def describe(self, finished: Finished) -> None:
        """Describe a request that has just been answered."""
        end = time.time_ns()
        attributes = self._attributes(finished)
        self._duration.record(finished.seconds, attributes)
        if finished.route in _WITHOUT_SPAN:
            return
        method = str(attributes["http.request.method"])
        name = "HTTP" if method == "_OTHER" else method
        if finished.route != NO_ROUTE:
            name = f"{name} {finished.route}"
            # The template again: a path may hold what a client has put there.
            attributes["url.path"] = finished.route
        answering = finished.answering
        if answering.model is not None:
            attributes["bertrt.model"] = answering.model.name
        span = self._tracer.start_span(
            name,
            self._propagator.extract(finished.headers, Context()),
            SpanKind.SERVER,
            attributes,
            start_time=end - round(finished.seconds * _NANO),
        )
        if finished.status >= 500:
            span.set_status(StatusCode.ERROR)
        if span.is_recording() and answering.answered_at:
            age = finished.started + finished.seconds - answering.answered_at
            self._stages(set_span_in_context(span), answering, end - round(age * _NANO))
        span.end(end)

    def close(self) -> None:
        """Send what has not been sent, for a few seconds at most."""

        def shut_down() -> None:
            for provider in self._providers:
                provider.shutdown()

        thread = threading.Thread(target=shut_down, daemon=True)
        thread.start()
        thread.join(_LAST)

    def _attributes(self, finished: Finished) -> dict[str, str | int]:
        """Return what spans and the metric share."""
        method = finished.method
        attributes: dict[str, str | int] = {
            "http.request.method": method if method in _METHODS else "_OTHER",
            "http.response.status_code": finished.status,
            "url.scheme": self._scheme,
        }
        if finished.route != NO_ROUTE:
            attributes["http.route"] = finished.route
        if finished.status >= 500:
            attributes["error.type"] = str(finished.status)
        return attributes

    def _stages(self, parent: Context, answering: Answering, end: int) -> None:
        """Describe the stages of a request, which follow each other until `end`, in ns."""
        stages = [
            ("tokenize", answering.tokenization),
            ("queue", answering.queue),
            ("infer", answering.inference),
        ]
        start = end - sum(round(seconds * _NANO) for _, seconds in stages)
        for name, seconds in stages:
            span = self._tracer.start_span(name, parent, start_time=start)
            start += round(seconds * _NANO)
            span.end(start)


def _is_sent(signal: str) -> bool:
    """Whether the environment wants a signal to be sent: TRACES or METRICS."""
    exporter = f"OTEL_{signal}_EXPORTER"
    name = os.environ.get(exporter) or "otlp"
    if name not in ("otlp", "none"):
        raise InputError(f"{exporter} is {name!r}: bertrt sends otlp, or none")
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(variable) or "http/protobuf"
        if name == "otlp" and protocol != "http/protobuf":
            raise InputError(f"{variable} is {protocol!r}: bertrt sends http/protobuf")
    return name == "otlp"
