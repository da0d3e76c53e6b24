"""What the server measures about itself.

Requests and rejections are counted where the application answers, batches where they run. Label
values come from fixed sets: routes of the table, names of the models, status codes, reasons.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bertrt._version import __version__
from bertrt.scheduling.answered import Answered
from bertrt.serving.models import Model, Models
from bertrt.serving.prometheus import TEXT, Counter, Gauge, Histogram, Metric, render
from bertrt.serving.tei_metrics import tei_metrics

__all__ = ["NO_MODEL", "NO_ROUTE", "Metrics", "rejection"]

# The labels of requests that no model was found for, or that need none; and that have no route.
NO_MODEL, NO_ROUTE = "", "none"

_REASONS = {
    401: "auth",
    408: "deadline",
    413: "too_large",
    429: "full",
    431: "too_large",
    499: "disconnect",
    503: "draining",
    504: "deadline",
}
_INVALID = "invalid"

# From 0.5 ms to 33 s, and from 1 to 131,072, each twice the one before.
_SECONDS = [0.0005 * 2**power for power in range(17)]
_SIZES = [2**power for power in range(18)]

_STARTED = time.time()


class Metrics:
    """The server's metrics."""

    def __init__(self, *, with_tei: bool = False) -> None:
        """Begin at 0, with neither routes nor models; `with_tei` adds those of `tei_metrics`."""
        self._with_tei = with_tei
        model, request = ("model",), ("route", "model")
        self._models: list[str] = []
        self._routes: list[str] = []
        self.requests = Counter(
            "bertrt_requests_total", "Requests answered.", ("route", "model", "status")
        )
        self.seconds = Histogram(
            "bertrt_request_duration_seconds",
            "From a request's head to its answer.",
            _SECONDS,
            request,
        )
        self.queue = Histogram(
            "bertrt_queue_duration_seconds",
            "From a request's admission until its first batch began.",
            _SECONDS,
            model,
        )
        self.tokenization = Histogram(
            "bertrt_tokenization_duration_seconds",
            "Encoding a request's texts.",
            _SECONDS,
            model,
        )
        self.inference = Histogram(
            "bertrt_inference_duration_seconds",
            "From a request's first batch until its last one ended.",
            _SECONDS,
            model,
        )
        self.batch_texts = Histogram("bertrt_batch_texts", "Texts of a batch.", _SIZES, model)
        self.batch_tokens = Histogram(
            "bertrt_batch_tokens", "Tokens of a batch, without padding.", _SIZES, model
        )
        self.input_tokens = Histogram(
            "bertrt_input_tokens", "Tokens of a request, after cutting.", _SIZES, model
        )
        self.several = Counter(
            "bertrt_batch_requests_total", "Requests answered that had several inputs.", model
        )
        self.rejected = Counter(
            "bertrt_rejected_total", "Requests that were not answered, by why.", ("model", "reason")
        )
        self.truncated = Counter("bertrt_truncated_total", "Inputs that were cut.", model)
        self.tokens = Counter("bertrt_tokens_total", "Tokens answered, after cutting.", model)
        self.padding = Counter("bertrt_padding_tokens_total", "Tokens added as padding.", model)

    def expect(self, *, routes: Sequence[str] = (), models: Sequence[str] = ()) -> None:
        """Make the series of routes and models that requests will come for, at 0."""
        self._routes += (route for route in routes if route not in self._routes)
        self._models += (model for model in models if model not in self._models)
        for model in self._models:
            for route in self._routes:
                self.requests.expect(route, model, "200")
                self.seconds.expect(route, model)
            for metric in (self.queue, self.tokenization, self.inference, self.input_tokens):
                metric.expect(model)
            for metric in (self.batch_texts, self.batch_tokens):
                metric.expect(model)
            for counter in (self.truncated, self.tokens, self.padding, self.several):
                counter.expect(model)
        for model in (NO_MODEL, *self._models):
            for reason in (_INVALID, *_REASONS.values()):
                self.rejected.expect(model, reason)

    def request(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests.add(1, route, model, str(status))
        self.seconds.observe(seconds, route, model)

    def reject(self, model: str, reason: str) -> None:
        """Count a request that was not answered."""
        self.rejected.add(1, model, reason)

    def refuse(self, status: int, reason: str | None = None) -> None:
        """Count an answer that the protocol gave by itself; it was not a whole request."""
        self.requests.add(1, NO_ROUTE, NO_MODEL, str(status))
        if reason := reason or rejection(status):
            self.reject(NO_MODEL, reason)

    def answered(self, model: str, answered: Answered, inputs: int) -> None:
        """Count the inputs of a request, and what they took."""
        self.tokenization.observe(answered.tokenization, model)
        self.queue.observe(answered.queue, model)
        self.inference.observe(answered.inference, model)
        self.input_tokens.observe(answered.tokens, model)
        self.tokens.add(answered.tokens, model)
        self.truncated.add(answered.truncated, model)
        self.several.add(inputs > 1, model)

    def observer(self, model: str) -> Callable[[int, int, int, float], None]:
        """Return a function for `DynamicBatcher.observe`."""

        def observe(texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
            self.batch_texts.observe(texts, model)
            self.batch_tokens.observe(tokens, model)
            self.padding.add(padded_tokens - tokens, model)

        return observe

    def text(self, served: Models, is_ready: bool, content_type: str = TEXT) -> str:
        """Return all metrics in a format of `prometheus`, with the gauges of this moment."""
        counted = (
            self.requests,
            self.seconds,
            self.queue,
            self.tokenization,
            self.inference,
            self.batch_texts,
            self.batch_tokens,
            self.input_tokens,
            self.several,
            self.rejected,
            self.truncated,
            self.tokens,
            self.padding,
        )
        found: list[Metric] = [*counted, *self._gauges(served, is_ready)]
        if self._with_tei:
            kinds = {one.name: "embed" if "embed" in one.can else "predict" for one in served}
            found += tei_metrics({metric.name: metric for metric in found}, kinds)
        return render([*found, *_process()], content_type)

    def _gauges(self, served: Models, is_ready: bool) -> Iterable[Gauge]:
        models: list[Model] = list(served)
        loads = {model.name: model.batcher.load for model in models}
        running = {model.name: model.in_flight for model in models}
        names = self._models

        def of_each(values: dict[str, int]) -> Callable[[], list[tuple[tuple[str, ...], float]]]:
            # A model that is still being loaded has nothing waiting.
            return lambda: [((name,), values.get(name, 0)) for name in names]

        texts = {name: load.waiting_texts for name, load in loads.items()}
        tokens = {name: load.waiting_tokens for name, load in loads.items()}
        model = ("model",)
        yield Gauge("bertrt_queue_texts", "Texts that wait.", of_each(texts), model)
        yield Gauge("bertrt_queue_tokens", "Tokens that wait.", of_each(tokens), model)
        yield Gauge(
            "bertrt_in_flight_requests",
            "Requests that wait or are answered.",
            of_each(running),
            model,
        )
        yield Gauge(
            "bertrt_ready",
            "Whether new requests are welcome.",
            lambda: [((), is_ready)],
        )
        yield Gauge(
            "bertrt_model_info",
            "What is served; always 1.",
            lambda: [(_facts(model), 1) for model in models],
            ("model", "heads", "dtype", "weights_sha256"),
        )
        yield Gauge(
            "bertrt_build_info",
            "What serves; always 1.",
            lambda: [((__version__, sys.version.split()[0]), 1)],
            ("version", "python"),
        )


def rejection(status: int) -> str | None:
    """Return why a request was not answered, by the status of its answer; None for our own faults.

    A 503 comes while the server starts or stops; where a protocol spells a full queue 503, ask with
    the 429 that it stands for.
    """
    return _REASONS.get(status, _INVALID if 400 <= status < 500 else None)


def _facts(model: Model) -> tuple[str, ...]:
    """Return the labels of `bertrt_model_info`."""
    weights = model.artifact.manifest.weights
    dtype = str(model.runtime.info["target"]["dtype"])
    return model.name, ",".join(sorted(model.can)), dtype, weights.sha256


def _process() -> Iterable[Counter | Gauge]:
    """Yield the metrics of the process, by the names of Prometheus's own clients."""
    cpu = Counter("process_cpu_seconds_total", "User and system CPU time spent in seconds.")
    cpu.add(time.process_time())
    yield cpu
    yield Gauge(
        "process_start_time_seconds",
        "Start time of the process since the Unix epoch in seconds.",
        lambda: [((), _STARTED)],
    )
    statm, descriptors = Path("/proc/self/statm"), Path("/proc/self/fd")
    if statm.exists():  # on Linux
        resident = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        yield Gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            lambda: [((), resident)],
        )
        opened = len(list(descriptors.iterdir()))
        yield Gauge("process_open_fds", "Number of open file descriptors.", lambda: [((), opened)])
