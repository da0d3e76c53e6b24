"""Live requests: texts arrive one at a time, at random, at increasing rates.

Arrivals are a Poisson process, the same for all contenders, sent open loop
(`benchmarks.harness.load_generator`). Each text is a separate call behind a queue, or goes to
the contender's live batcher, if it has one. The offered load is a share of what bertrt answers one
at a time, so that all contenders get the same number of texts per second.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.data.corpus import SEED, mixed
from benchmarks.data.models import Model
from benchmarks.harness import load_generator
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import check, reference_answers_to_texts
from benchmarks.harness.rounds import rotations, speedups, summary
from benchmarks.harness.rows import Row, distinct, refused, timed
from benchmarks.harness.worker_pool import WorkerPool, split_by_memory, worker_pool
from benchmarks.harness.worker_process import RefusedError

__all__ = ["CONTENDERS", "NAME", "TASKS", "measure"]

NAME = "live"
TASKS = ("embeddings", "classification")
# Measured when no contender is named: one of each kind, because a load takes a while.
CONTENDERS = (
    "eager",
    "ort_plain",
    "ort_quantize_dynamic",
    "openvino_float32",
    "sentence_transformers",
    "bertrt",
    "bertrt_int8",
)

_LOADS = (0.5, 0.7, 0.9, 1.2, 1.6, 2.0)
_QUICK_LOADS = (0.5, 0.9, 1.6)
_TEXTS = 256
_QUICK_TEXTS = 64
# Each load is offered in passes, in turn with the other contenders.
_PASSES = 3
_PASS_SECONDS = 5.0
_QUICK_PASS_SECONDS = 3.0
# Capacity is the best of several turns, because the machine's other load varies by the minute.
_CAPACITY_TURNS, _CAPACITY_SECONDS = 5, 4.0
_QUICK_CAPACITY_TURNS, _QUICK_CAPACITY_SECONDS = 2, 2.0
# A growing queue shows nothing new after a while, and takes that many times longer to empty.
_MOST_OVERLOAD = 2.5
_PAUSE = 0.3
# The offered load is a share of this contender's capacity, or of the first one's.
_CAPACITY_OF = "bertrt"
_LIVE = "_live"


@dataclass(frozen=True)
class _Server:
    """A worker, one at a time or through its batcher, and its capacity one at a time, texts/s."""

    worker: str
    live: bool
    capacity: float

    @property
    def name(self) -> str:
        return self.worker + (_LIVE if self.live else "")


@dataclass
class _Tally:
    """The sum of one load's passes on one server; `failure` says why there is none."""

    server: _Server
    latencies: list[np.ndarray] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    seconds: float = 0.0
    turned_away: int = 0
    error: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure latencies at every load; yield a row for each contender and load, timed or refused.

    A row has median_ms, p20_ms, p80_ms, p95_ms and p99_ms of n answered requests, and `load` (the
    share), `rate` (texts offered per second), `throughput` (answered per second until the last
    answer), `turned_away` (requests refused by a full queue) and `capacity` (what the contender
    answers per second one at a time). `speedup` compares the passes' p99. The contender
    `bertrt_live` is bertrt's live batcher.
    """
    return distinct(_measure(config, model, task, names))


def _measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    texts = mixed(_QUICK_TEXTS if config.quick else _TEXTS)
    expected = reference_answers_to_texts(config, model, task, texts)
    weights = model.checkpoint(task) / "model.safetensors"
    full_load = 0.0
    for group in split_by_memory(names, weights.stat().st_size, gpu_bytes=config.gpu_bytes):
        with worker_pool(config, model, task, group) as pool:
            servers = _warm_servers(config, pool, texts)
            for name, reason in pool.refused.items():
                yield refused(NAME, model, task, name, reason)
            if not servers:
                continue
            # The same rates in every group, though each measures bertrt's capacity again.
            full_load = full_load or _full_load(servers)
            for load in _QUICK_LOADS if config.quick else _LOADS:
                rate = load * full_load
                config.report(f"  {rate:.1f} requests/s, {_shape(load)}")
                tallies = [_Tally(server, failure=_overload(server, rate)) for server in servers]
                _offer(config, pool, texts, expected, tallies, rate)
                tails = {
                    tally.server.name: tally.tails for tally in tallies if tally.failure is None
                }
                for tally in tallies:
                    row = _row(config, model, task, pool, tally, tails, _shape(load))
                    yield {**row, "load": load, "rate": rate}


def _warm_servers(config: BenchConfig, pool: WorkerPool, texts: list[str]) -> list[_Server]:
    """Return one or two servers for each worker, warmed up; dismiss the workers that fail.

    Capacities are the best of several turns: other load on the machine can only lower them.
    """
    capacities = dict.fromkeys(pool.workers, 0.0)
    turns = _QUICK_CAPACITY_TURNS if config.quick else _CAPACITY_TURNS
    seconds = _QUICK_CAPACITY_SECONDS if config.quick else _CAPACITY_SECONDS
    for order in rotations(list(capacities), turns):
        for name in order:
            if name not in capacities:
                continue
            try:
                found = _apply(
                    pool, name, load_generator.measure_capacity, texts=texts, seconds=seconds
                )
                capacities[name] = max(capacities[name], found)
            except RefusedError as error:
                del capacities[name]
                pool.dismiss(name, str(error))
            time.sleep(_PAUSE)
    listed = ", ".join(f"{name} {value:.1f}" for name, value in capacities.items())
    config.report(f"  one at a time, texts/s: {listed}")
    servers = []
    for name, capacity in capacities.items():
        servers.append(_Server(name, live=False, capacity=capacity))
        if _apply(pool, name, load_generator.has_batcher):
            servers.append(_Server(name, live=True, capacity=capacity))
            # Its first batches. An error occurs in the first pass too, and is recorded there.
            with contextlib.suppress(RefusedError):
                arrivals = np.zeros(len(texts))
                _apply(pool, name, load_generator.serve_live, texts=texts, arrivals=arrivals)
    return servers


def _full_load(servers: Sequence[_Server]) -> float:
    """Return the capacity that the offered load is a share of."""
    capacities = {server.worker: server.capacity for server in servers}
    return capacities.get(_CAPACITY_OF, servers[0].capacity)


def _overload(server: _Server, rate: float) -> str | None:
    """Return why a rate is far too high for a server to be tried, or None."""
    if server.live or rate <= _MOST_OVERLOAD * server.capacity:
        return None
    return f"it answers {server.capacity:.3g} texts/s one at a time, and {rate:.3g} arrive"


def _offer(
    config: BenchConfig,
    pool: WorkerPool,
    texts: list[str],
    expected: np.ndarray,
    tallies: Sequence[_Tally],
    rate: float,
) -> None:
    """Offer one load to every server, in passes."""
    seconds = _QUICK_PASS_SECONDS if config.quick else _PASS_SECONDS
    by_name = {tally.server.name: tally for tally in tallies}
    for number, order in enumerate(rotations(list(by_name), _PASSES)):
        count = max(1, round(rate * seconds))
        arrivals = load_generator.poisson_arrivals(rate, count, seed=number)
        for name in order:
            if by_name[name].failure is None:
                _pass(pool, by_name[name], texts, expected, arrivals)
                time.sleep(_PAUSE)


def _pass(
    pool: WorkerPool, tally: _Tally, texts: list[str], expected: np.ndarray, arrivals: np.ndarray
) -> None:
    """Make one pass, check each of its answers, and add its times to the tally."""
    server = tally.server
    serve = load_generator.serve_live if server.live else load_generator.serve_one_by_one
    try:
        served = _apply(pool, server.worker, serve, texts=texts, arrivals=arrivals)
    except RefusedError as error:
        tally.failure = str(error)
        return
    tally.turned_away += len(served["turned_away"])
    if len(served["turned_away"]) == len(arrivals):
        tally.failure = "every request was turned away"
        return
    answered = np.setdiff1d(np.arange(len(arrivals)), served["turned_away"]) % len(texts)
    precision = pool.described[server.worker]["precision"]
    verdict = check(served["answers"], expected[answered], precision)
    tally.error = _worse(tally.error, verdict.error)
    tally.failure = verdict.wrong and f"wrong answer under load: {verdict.wrong}"
    tally.latencies.append(served["latencies"])
    tally.tails.append(float(np.percentile(served["latencies"], 99)))
    tally.seconds += served["seconds"]


def _row(
    config: BenchConfig,
    model: Model,
    task: str,
    pool: WorkerPool,
    tally: _Tally,
    tails: dict[str, list[float]],
    shape: str,
) -> Row:
    server = tally.server
    if tally.failure is not None:
        row = refused(
            NAME, model, task, server.worker, tally.failure, shape=shape, error=tally.error
        )
    else:
        latencies = np.concatenate(tally.latencies)
        p95, p99 = (float(1000 * x) for x in np.percentile(latencies, (95, 99)))
        row = timed(
            NAME,
            model,
            task,
            server.worker,
            shape=shape,
            versions=pool.described[server.worker]["versions"],
            error=tally.error,
            **summary(latencies.tolist()),
            p95_ms=p95,
            p99_ms=p99,
            throughput=len(latencies) / tally.seconds,
            turned_away=tally.turned_away,
            speedup=speedups(tails, server.name),
            settings={"threads": config.threads, "passes": _PASSES, "corpus_seed": SEED},
        )
    row["capacity"] = server.capacity
    if server.live:
        row |= {"contender": server.name, "title": f"{row['title']}, live batcher"}
    return row


def _apply(pool: WorkerPool, name: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a worker without the pool, which would dismiss it when only its batcher has failed."""
    return pool.workers[name].call("apply", function=function, arguments=arguments)


def _worse(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """Return the worse of two errors, number by number: smaller cosines, larger differences."""
    worse = {"worst_cosine": min, "argmax_agreement": min}
    return {key: worse.get(key, max)(first.get(key, value), value) for key, value in second.items()}


def _shape(load: float) -> str:
    return f"{load:.0%} of capacity".replace("%", " %")
