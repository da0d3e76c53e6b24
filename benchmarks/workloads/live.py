"""Live requests: texts arrive one at a time, at random, at increasing rates.

Arrivals are a Poisson process, the same for all contenders, sent open loop
(`benchmarks.harness.load_generator`). Each text is a separate call behind a queue, or goes to
the contender's live batcher, if it has one. The offered load is a share of what bertrt answers one
at a time, so that all contenders get the same number of texts per second.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.contenders.registry import find
from benchmarks.data.corpus import mixed
from benchmarks.data.models import Model
from benchmarks.harness import load_generator
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import reference_answers_to_texts
from benchmarks.harness.rounds import rotations
from benchmarks.harness.rows import Row, distinct, refused
from benchmarks.harness.worker_pool import WorkerPool, split_by_memory, worker_pool
from benchmarks.harness.worker_process import RefusedError
from benchmarks.workloads.offered_load import LIVE, Offer, Service, apply, offer_load

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


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure latencies at every load; yield a row for each contender and load, timed or refused.

    A row has the fields of `offer_load`, and `load`, the share of the capacity: what bertrt answers
    per second one at a time. The contender `bertrt_live` is bertrt's live batcher.
    """
    return distinct(_measure(config, model, task, names))


def _measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    texts = mixed(_QUICK_TEXTS if config.quick else _TEXTS)
    expected = reference_answers_to_texts(config, model, task, texts)
    weights = model.checkpoint(task) / "model.safetensors"
    seconds = _QUICK_PASS_SECONDS if config.quick else _PASS_SECONDS
    full_load = 0.0
    for group in split_by_memory(names, weights.stat().st_size, gpu_bytes=config.gpu_bytes):
        with worker_pool(config, model, task, group) as pool:
            services = _warm_services(config, pool, texts)
            for name, reason in pool.refused.items():
                yield refused(NAME, model, task, name, reason)
            if not services:
                continue
            # The same rates in every group, though each measures bertrt's capacity again.
            full_load = full_load or _full_load(services)
            for load in _QUICK_LOADS if config.quick else _LOADS:
                rate = load * full_load
                config.report(f"  {rate:.1f} requests/s, {_shape(load)}")
                tried = {service: _overload(service, rate) for service in services}
                offer = Offer(rate, seconds, _shape(load))
                rows = offer_load(config, model, task, pool, tried, texts, expected, offer, NAME)
                yield from ({**row, "load": load} for row in rows)


def _warm_services(config: BenchConfig, pool: WorkerPool, texts: list[str]) -> list[Service]:
    """Return one or two services for each worker, warmed up; dismiss the workers that fail.

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
                found = apply(
                    pool, name, load_generator.measure_capacity, texts=texts, seconds=seconds
                )
                capacities[name] = max(capacities[name], found)
            except RefusedError as error:
                del capacities[name]
                pool.dismiss(name, str(error))
            time.sleep(_PAUSE)
    listed = ", ".join(f"{name} {value:.1f}" for name, value in capacities.items())
    config.report(f"  one at a time, texts/s: {listed}")
    services = []
    for name, capacity in capacities.items():
        title = find(name).title
        services.append(Service(name, name, title, live=False, capacity=capacity))
        if apply(pool, name, load_generator.has_batcher):
            title = f"{title}, live batcher"
            services.append(Service(name, name + LIVE, title, capacity=capacity))
            # Its first batches. An error occurs in the first pass too, and is recorded there.
            with contextlib.suppress(RefusedError):
                arrivals = np.zeros(len(texts))
                apply(pool, name, load_generator.serve_live, texts=texts, arrivals=arrivals)
    return services


def _full_load(services: Sequence[Service]) -> float:
    """Return the capacity that the offered load is a share of."""
    capacities = {service.worker: service.capacity for service in services}
    return capacities.get(_CAPACITY_OF, services[0].capacity)


def _overload(service: Service, rate: float) -> str | None:
    """Return why a rate is far too high for a service to be tried, or None."""
    if service.live or rate <= _MOST_OVERLOAD * service.capacity:
        return None
    return f"it answers {service.capacity:.3g} texts/s one at a time, and {rate:.3g} arrive"


def _shape(load: float) -> str:
    return f"{load:.0%} of capacity".replace("%", " %")
