"""A load that is offered to several services in turn: its passes, its checks and its rows.

A service is a contender and a way to ask it. Requests arrive at random times, the same for all
services of a pass, whether or not earlier ones are answered.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.data.corpus import SEED
from benchmarks.data.models import Model
from benchmarks.harness import load_generator
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import check
from benchmarks.harness.rounds import rotations, speedups, summary
from benchmarks.harness.rows import Row, refused, timed
from benchmarks.harness.worker_pool import WorkerPool
from benchmarks.harness.worker_process import RefusedError

__all__ = ["LIVE", "Offer", "Service", "apply", "offer_load"]

# The suffix of a contender's live batcher.
LIVE = "_live"
# Each load is offered in passes, in turn with the other services.
_PASSES = 3
_PAUSE = 0.3


@dataclass(frozen=True)
class Service:
    """A worker, asked one text at a time or live, and its capacity in texts per second."""

    worker: str
    name: str
    title: str
    live: bool = True
    capacity: float = 0.0


@dataclass(frozen=True)
class Offer:
    """A load: texts per second for some seconds, and its name in the rows."""

    rate: float
    seconds: float
    shape: str


@dataclass
class _Tally:
    """The sum of one load's passes on one service; `failure` says why there is none."""

    service: Service
    failure: str | None = None
    latencies: list[np.ndarray] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0
    turned_away: int = 0
    error: dict[str, float] = field(default_factory=dict)


def offer_load(
    config: BenchConfig,
    model: Model,
    task: str,
    pool: WorkerPool,
    services: Mapping[Service, str | None],
    texts: list[str],
    expected: np.ndarray,
    offer: Offer,
    workload: str,
) -> list[Row]:
    """Offer one load to every service; return a row for each.

    `services` has for each the reason why it is not tried at this load, or None. A row has
    median_ms, p20_ms, p80_ms, p95_ms and p99_ms of n answered requests, and `throughput` (answered
    per second until the last answer), `turned_away` (requests refused by a full queue), `cpu_ms`
    (CPU time of the service for each answered text), `lag_ms` (how late the generator sent the
    99th percentile of the requests, in the worst pass), `rate` and `capacity`. `speedup` compares
    the passes' p99.
    """
    tallies = {service.name: _Tally(service, reason) for service, reason in services.items()}
    for number, order in enumerate(rotations(list(tallies), _PASSES)):
        count = max(1, round(offer.rate * offer.seconds))
        arrivals = load_generator.poisson_arrivals(offer.rate, count, seed=number)
        for name in order:
            if tallies[name].failure is None:
                _pass(pool, tallies[name], texts, expected, arrivals)
                time.sleep(_PAUSE)
    tails = {name: tally.tails for name, tally in tallies.items() if tally.failure is None}
    return [
        _row(config, model, task, pool, tally, tails, offer, workload) for tally in tallies.values()
    ]


def apply(pool: WorkerPool, name: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a worker without the pool, which would dismiss it when only its batcher has failed."""
    return pool.workers[name].call("apply", function=function, arguments=arguments)


def _pass(
    pool: WorkerPool, tally: _Tally, texts: list[str], expected: np.ndarray, arrivals: np.ndarray
) -> None:
    """Make one pass, check each of its answers, and add its times to the tally."""
    service = tally.service
    serve = load_generator.serve_live if service.live else load_generator.serve_one_by_one
    try:
        served = apply(pool, service.worker, serve, texts=texts, arrivals=arrivals)
    except RefusedError as error:
        tally.failure = str(error)
        return
    tally.turned_away += len(served["turned_away"])
    if len(served["turned_away"]) == len(arrivals):
        tally.failure = "every request was turned away"
        return
    answered = np.setdiff1d(np.arange(len(arrivals)), served["turned_away"]) % len(texts)
    precision = pool.described[service.worker]["precision"]
    verdict = check(served["answers"], expected[answered], precision)
    tally.error = _worse(tally.error, verdict.error)
    tally.failure = verdict.wrong and f"wrong answer under load: {verdict.wrong}"
    tally.latencies.append(served["latencies"])
    tally.tails.append(float(np.percentile(served["latencies"], 99)))
    tally.lags.append(served["lag"])
    tally.seconds += served["seconds"]
    tally.cpu += served["cpu"]


def _row(
    config: BenchConfig,
    model: Model,
    task: str,
    pool: WorkerPool,
    tally: _Tally,
    tails: Mapping[str, Sequence[float]],
    offer: Offer,
    workload: str,
) -> Row:
    service = tally.service
    if tally.failure is not None:
        row = refused(
            workload,
            model,
            task,
            service.worker,
            tally.failure,
            shape=offer.shape,
            error=tally.error,
        )
    else:
        latencies = np.concatenate(tally.latencies)
        p95, p99 = (float(1000 * x) for x in np.percentile(latencies, (95, 99)))
        row = timed(
            workload,
            model,
            task,
            service.worker,
            shape=offer.shape,
            versions=pool.described[service.worker]["versions"],
            error=tally.error,
            **summary(latencies.tolist()),
            p95_ms=p95,
            p99_ms=p99,
            throughput=len(latencies) / tally.seconds,
            turned_away=tally.turned_away,
            cpu_ms=1000 * tally.cpu / len(latencies),
            lag_ms=1000 * max(tally.lags),
            speedup=speedups(tails, service.name),
            settings={"threads": config.threads, "passes": _PASSES, "corpus_seed": SEED},
        )
    return {
        **row,
        "contender": service.name,
        "title": service.title,
        "capacity": service.capacity,
        "rate": offer.rate,
    }


def _worse(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """Return the worse of two errors, number by number: smaller cosines, larger differences."""
    worse = {"worst_cosine": min, "argmax_agreement": min}
    return {key: worse.get(key, max)(first.get(key, value), value) for key, value in second.items()}
