"""Embeddings over HTTP: requests at random times, and clients that keep a server busy.

Each contender is a server process, and its worker is the client (`benchmarks.contenders.
http_servers`). bertrt's live batcher in a process of its own, without HTTP, is the ceiling: what
the server adds to it is the cost of HTTP. All answers are checked, before and while they are timed.

With as many threads as CPUs, client and server share them. With `--threads 1` on a machine with
two, the server has one and the client the other.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.contenders.registry import find
from benchmarks.data.corpus import SEED, mixed
from benchmarks.data.models import Model
from benchmarks.harness import load_generator
from benchmarks.harness.calibration import machine_speed, steadiest
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import Errors, dismiss_wrong, reference_answers_to_texts
from benchmarks.harness.rounds import rotations, speedups
from benchmarks.harness.rows import Row, refused, timed
from benchmarks.harness.worker_pool import WorkerPool, prepare_once, worker_pool
from benchmarks.harness.worker_process import RefusedError
from benchmarks.workloads.offered_load import LIVE, Offer, Service, apply, offer_load

__all__ = ["CONTENDERS", "MODELS", "NAME", "TASKS", "measure"]

NAME = "http"
TASKS = ("embeddings",)
MODELS = ("minilm",)
CONTENDERS = (
    "bertrt",
    "bertrt_serve",
    "bertrt_serve_int8",
    "fastapi",
    "fastapi_batched",
    "infinity",
)

_TEXTS = 256
# Of busy clients: the texts in a request, and how many requests there are at a time.
_BUSY = {1: 64, 32: 8}
# Turns are short, so that the machine is likely to be as fast in all turns of a round. Rounds in
# which it was not are left out, down to the steadiest few.
_TURN_SECONDS, _ROUNDS, _LEAST_ROUNDS = 2.0, 12, 6
_QUICK_ROUNDS = 3
# Where a process lies in memory makes it up to a fifth faster or slower for its whole life.
_STARTS = 3
# Loads are shares of the capacity of one of these, its texts per second when saturated.
_CEILING, _COMMON = "bertrt" + LIVE, "fastapi"
_LOADS = ((0.9, _COMMON), (0.5, _CEILING), (0.9, _CEILING))
_QUICK_LOADS = ((0.9, _COMMON), (0.5, _CEILING))
_OFFER_SECONDS, _QUICK_OFFER_SECONDS = 6.0, 3.0
# A growing queue shows nothing new after a while, and takes that many times longer to empty.
_MOST_OVERLOAD = 2.5
_PAUSE = 0.3

# What `measure_saturated` returns.
_Turn = dict[str, float]


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Yield rows of busy clients and of offered loads, timed or refused, for each contender.

    A row of busy clients has the shape "busy clients, N texts a request" and the metric
    texts_per_s, `cpu_ms`, CPU time of the server for each text, and `memory_mib`, the server's
    memory then; in its settings, of how many rounds, and how unsteady the machine was in the worst
    one that counts. A row of an offered load has the fields of `offer_load` and `load`, the share
    of the capacity of bertrt's batcher.
    """
    texts = mixed(_TEXTS)
    expected = reference_answers_to_texts(config, model, task, texts)
    with worker_pool(config, model, task, names) as pool:
        errors = dismiss_wrong(pool, expected, f"to {_TEXTS} texts", "answer", texts=texts)
        services = {name: _service(name) for name in pool.workers}
        capacities = {}
        for row in _busy_clients(config, model, task, pool, services, texts, errors):
            if row["shape"] == _busy(1):
                capacities[row["contender"]] = row["median"]
            yield row
        for name, reason in pool.refused.items():
            error = {"error": errors[name]} if name in errors else {}
            yield refused(NAME, model, task, name, reason, **error)
        yield from _offers(config, model, task, pool, services, texts, expected, capacities)


def _service(name: str) -> Service:
    """Return a contender's service; one without a server of its own is its live batcher."""
    title = find(name).title
    if name == "bertrt":
        return Service(name, name + LIVE, f"{title} in process, live batcher")
    return Service(name, name, title)


def _busy_clients(
    config: BenchConfig,
    model: Model,
    task: str,
    pool: WorkerPool,
    services: dict[str, Service],
    texts: list[str],
    errors: Errors,
) -> Iterator[Row]:
    least, most = (_QUICK_ROUNDS, _QUICK_ROUNDS) if config.quick else (_LEAST_ROUNDS, _ROUNDS)
    for size, in_flight in _BUSY.items():
        config.report(f"  {_busy(size)}")
        rounds: list[tuple[float, dict[str, _Turn]]] = []
        for number, order in enumerate(rotations(list(pool.workers), most)):
            if number % (most // _STARTS) == 0:
                if rounds:
                    _start_again(config, model, task, pool)
                _round(pool, order, texts, size, in_flight)  # to warm up
            rounds.append(_round(pool, order, texts, size, in_flight))
        whole = [(spread, turns) for spread, turns in rounds if set(turns) >= set(pool.workers)]
        chosen = steadiest(whole, least)
        spread = sorted(spread for spread, _ in whole)[len(chosen) - 1]
        found = {name: [turns[name] for turns in chosen] for name in pool.workers}
        # The seconds of a text, for ratios.
        times = {
            services[name].name: [1 / turn["rate"] for turn in found[name]] for name in pool.workers
        }
        for name in pool.workers:
            service = services[name]
            p20, median, p80 = np.percentile([turn["rate"] for turn in found[name]], (20, 50, 80))
            row = timed(
                NAME,
                model,
                task,
                name,
                shape=_busy(size),
                versions=pool.described[name]["versions"],
                error=errors[name],
                metric="texts_per_s",
                median=float(median),
                p20=float(p20),
                p80=float(p80),
                n=len(chosen),
                memory_mib=_memory(pool, name),
                cpu_ms=1000 * float(np.median([turn["cpu"] for turn in found[name]])),
                speedup=speedups(times, service.name),
                settings={
                    "threads": config.threads,
                    "corpus_seed": SEED,
                    "in_flight": in_flight,
                    "rounds": len(whole),
                    "spread": round(spread, 3),
                },
            )
            yield {**row, "contender": service.name, "title": service.title}


def _start_again(config: BenchConfig, model: Model, task: str, pool: WorkerPool) -> None:
    """Start every contender anew; dismiss those that fail."""
    for name in list(pool.workers):
        try:
            folder = prepare_once(config, name, model, task, pool.workers[name])
            pool.call(
                name, "load", model=model, task=task, folder=str(folder), threads=config.threads
            )
        except RefusedError as error:
            if name in pool.workers:
                pool.dismiss(name, str(error))


def _round(
    pool: WorkerPool, order: Sequence[str], texts: list[str], size: int, in_flight: int
) -> tuple[float, dict[str, _Turn]]:
    """Give each contender a turn; return the machine's spread, and what the turns found.

    A contender that fails is dismissed.
    """
    speeds, turns = [], {}
    for name in order:
        if name not in pool.workers:
            continue
        speeds.append(machine_speed())
        try:
            turns[name] = apply(
                pool,
                name,
                load_generator.measure_saturated,
                texts=texts,
                seconds=_TURN_SECONDS,
                size=size,
                in_flight=in_flight,
            )
        except RefusedError as error:
            pool.dismiss(name, str(error))
        time.sleep(_PAUSE)
    return max(speeds, default=1.0) / min(speeds, default=1.0), turns


def _offers(
    config: BenchConfig,
    model: Model,
    task: str,
    pool: WorkerPool,
    services: dict[str, Service],
    texts: list[str],
    expected: np.ndarray,
    capacities: dict[str, float],
) -> Iterator[Row]:
    for share, of in _QUICK_LOADS if config.quick else _LOADS:
        if of not in capacities:
            continue
        rate = share * capacities[of]
        title = next(service.title for service in services.values() if service.name == of)
        shape = f"{share:.0%} of the capacity of {title}".replace("%", " %")
        config.report(f"  {rate:.1f} requests/s, {shape}")
        tried = {}
        for name in pool.workers:
            capacity = capacities[services[name].name]
            service = replace(services[name], capacity=capacity)
            tried[service] = None
            if rate > _MOST_OVERLOAD * capacity:
                tried[service] = f"it answers {capacity:.3g} texts/s, and {rate:.3g} arrive"
        seconds = _QUICK_OFFER_SECONDS if config.quick else _OFFER_SECONDS
        offer = Offer(rate, seconds, shape)
        rows = offer_load(config, model, task, pool, tried, texts, expected, offer, NAME)
        load = rate / capacities.get(_CEILING, rate)
        yield from ({**row, "load": load} for row in rows)


def _busy(size: int) -> str:
    return f"busy clients, {size} text{'s' if size > 1 else ''} a request"


def _memory(pool: WorkerPool, name: str) -> float:
    """Return the MiB that a server has in memory; of a batcher, its process's."""
    return apply(pool, name, load_generator.memory_bytes) / 2**20
