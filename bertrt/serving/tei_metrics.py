"""The metrics under the names of Text Embeddings Inference (TEI), for dashboards made for it.

They are the server's own numbers, so a request counts once, and the queue's size is the one of this
moment. Each has the label `model` as well. What TEI counts for each text, `te_embed_*` and
`te_predict_*`, is counted for each request here.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from bertrt.serving.prometheus import Metric, Sample

__all__ = ["tei_metrics"]

Labels = Mapping[str, str]

# Routes of a model that do not run it.
_ASIDE = ("/tokenize", "/decode", "/info")
# TEI's words for why a request failed; it has none for the other reasons.
_ERRORS = {
    "full": "overloaded",
    "disconnect": "dropped",
    "too_large": "batch_size",
    "invalid": "validation",
}
_STAGES = ("tokenization", "queue", "inference")


@dataclass(frozen=True)
class _View:
    """Another metric's series under another name.

    Attributes:
        name, source: the view's name, and the metric.
        relabel: a series' labels to those that it has here, or to None for one that is left out.
            Series that have the same labels here are added up.
    """

    name: str
    source: Metric
    relabel: Callable[[Labels], Labels | None]

    @property
    def help(self) -> str:
        """The help of the source."""
        return self.source.help

    @property
    def kind(self) -> str:
        """The kind of the source."""
        return self.source.kind

    def samples(self) -> Iterator[Sample]:
        """Yield the sums."""
        sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for suffix, labels, value in self.source.samples():
            bound = {"le": labels["le"]} if "le" in labels else {}
            if (kept := self.relabel(labels)) is not None:
                key = suffix, tuple({**kept, **bound}.items())
                sums[key] = sums.get(key, 0) + value
        for (suffix, pairs), value in sums.items():
            yield Sample(suffix, dict(pairs), value)


@dataclass(frozen=True)
class _ByMethod:
    """A counter of requests by TEI's `method`: "batch" for those of several inputs.

    Attributes:
        name, requests: the name, and the requests of each model.
        several: those of them that had several inputs.
    """

    name: str
    requests: Metric
    several: Metric
    kind = "counter"

    @property
    def help(self) -> str:
        """The help of the requests."""
        return self.requests.help

    def samples(self) -> Iterator[Sample]:
        """Yield both methods of each model."""
        batches = {labels["model"]: value for _, labels, value in self.several.samples()}
        for _, labels, value in self.requests.samples():
            several = batches.get(labels["model"], 0)
            yield Sample("", {"method": "single", **labels}, max(0, value - several))
            yield Sample("", {"method": "batch", **labels}, several)


def tei_metrics(metrics: Mapping[str, Metric], kinds: Mapping[str, str]) -> Iterable[Metric]:
    """Return the metrics that TEI has, from those of the server.

    Args:
        metrics: the server's, by name.
        kinds: "embed" or "predict" for the name of each model.
    """
    requests, seconds = metrics["bertrt_requests_total"], metrics["bertrt_request_duration_seconds"]
    several = metrics["bertrt_batch_requests_total"]
    durations = {stage: metrics[f"bertrt_{stage}_duration_seconds"] for stage in _STAGES}
    succeeded = _View("", requests, partial(_of_model, status="200"))
    yield _ByMethod("te_request_count", _View("", requests, _of_model), several)
    yield _ByMethod("te_request_success", succeeded, several)
    yield _View("te_request_failure", metrics["bertrt_rejected_total"], _failure)
    yield _View("te_request_duration", seconds, _of_model)
    for stage, metric in durations.items():
        yield _View(f"te_request_{stage}_duration", metric, lambda labels: labels)
    yield _View("te_request_input_length", metrics["bertrt_input_tokens"], lambda labels: labels)
    for kind in ("embed", "predict"):
        names = {name for name, its_kind in kinds.items() if its_kind == kind}
        of_kind = partial(_of_model, models=names)
        yield _View(f"te_{kind}_count", requests, of_kind)
        yield _View(f"te_{kind}_success", requests, partial(of_kind, status="200"))
        yield _View(f"te_{kind}_duration", seconds, of_kind)
        for stage, metric in durations.items():
            yield _View(f"te_{kind}_{stage}_duration", metric, of_kind)
    yield _View("te_queue_size", metrics["bertrt_queue_texts"], lambda labels: labels)
    yield _View("te_batch_next_size", metrics["bertrt_batch_texts"], lambda labels: labels)
    yield _View("te_batch_next_tokens", metrics["bertrt_batch_tokens"], lambda labels: labels)


def _of_model(
    labels: Labels, *, status: str | None = None, models: Collection[str] | None = None
) -> Labels | None:
    """Keep the model's name of requests that run one: of a status and of some models if given."""
    model = labels["model"]
    if not model or labels.get("route") in _ASIDE or (models is not None and model not in models):
        return None
    return {"model": model} if status in (None, labels.get("status")) else None


def _failure(labels: Labels) -> Labels:
    return {"err": _ERRORS.get(labels["reason"], labels["reason"]), "model": labels["model"]}
