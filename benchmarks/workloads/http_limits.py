"""What a server of embeddings survives: full queues, slow and broken clients, and its own end.

Nothing is compared here: each row is one number that a server promises something about, or failed
to give. The functions are in `benchmarks.harness.http_stress`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.data.corpus import SEED, mixed
from benchmarks.data.models import Model
from benchmarks.harness import http_stress, load_generator
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import dismiss_wrong, reference_answers_to_texts
from benchmarks.harness.rows import Row, refused, timed
from benchmarks.harness.worker_pool import worker_pool
from benchmarks.harness.worker_process import RefusedError
from benchmarks.workloads.offered_load import apply

__all__ = [
    "CONTENDERS",
    "MODELS",
    "NAME",
    "TASKS",
    "latency_probes",
    "measure",
    "measure_probes",
]

NAME = "http_limits"
TASKS = ("embeddings",)
MODELS = ("minilm",)
CONTENDERS = ("bertrt_serve",)

_TEXTS = 64
# Of 512 tokens. So many of them fit into a request's time limit on one core.
_LONG, _AT_A_TIME = " ".join(["word"] * 510), 64
_TIMEOUT = 1800

# The name of a number, its unit, and how to find it.
Number = tuple[str, str, Callable[[dict[str, float]], float]]
# What to run, with its arguments, and the numbers that it finds.
Probe = tuple[Callable[..., Any], dict[str, Any], list[Number]]


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of all probes: see `measure_probes`."""
    yield from measure_probes(config, model, task, names, _probes)


def measure_probes(
    config: BenchConfig,
    model: Model,
    task: str,
    names: Sequence[str],
    probes: Callable[[list[str], float, bool], Iterator[Probe]],
) -> Iterator[Row]:
    """Yield a row for each number of each server.

    A row has a `metric` (ms, mib, requests or times), the number as `median`, `p20` and `p80`, and
    `found`, everything that was counted with it.
    """
    texts = mixed(_TEXTS)
    expected = reference_answers_to_texts(config, model, task, texts)
    with worker_pool(config, model, task, names) as pool:
        errors = dismiss_wrong(pool, expected, f"to {_TEXTS} texts", "answer", texts=texts)
        for name, reason in pool.refused.items():
            yield refused(NAME, model, task, name, reason)
        for name in pool.workers:
            capacity = apply(
                pool, name, load_generator.measure_saturated, texts=texts, seconds=3.0
            )["rate"]
            for function, arguments, numbers in probes(texts, capacity, config.quick):
                config.report(f"  {name}: {numbers[0][0]}")
                try:
                    found = pool.workers[name].call(
                        "apply", timeout=_TIMEOUT, function=function, arguments=arguments
                    )
                except RefusedError as error:
                    for shape, _, _ in numbers:
                        yield refused(NAME, model, task, name, str(error), shape=shape)
                    continue
                for shape, metric, value in numbers:
                    number = value(found)
                    yield timed(
                        NAME,
                        model,
                        task,
                        name,
                        shape=shape,
                        versions=pool.described[name]["versions"],
                        error=errors[name],
                        metric=metric,
                        **dict.fromkeys(("median", "p20", "p80"), number),
                        n=1,
                        found=found,
                        settings={"threads": config.threads, "corpus_seed": SEED},
                    )


def _probes(texts: list[str], capacity: float, quick: bool) -> Iterator[Probe]:
    """Yield all probes; the last one ends the server."""
    yield from latency_probes(texts, capacity, quick)
    yield from _lifetime_probes(texts, capacity, quick)


def latency_probes(texts: list[str], capacity: float, quick: bool) -> Iterator[Probe]:
    """Yield the probes of how long others wait.

    Args:
        texts: what requests are about.
        capacity: how many of them the server answers in a second.
        quick: whether to do a twentieth.
    """
    share = 20 if quick else 1
    yield (
        http_stress.health_under_load,
        {"texts": [_LONG] * (_AT_A_TIME // share), "requests": 8},
        [(f"p99 of /health while {8 * _AT_A_TIME} texts of 512 tokens run", "ms", _ms("p99"))],
    )
    yield (
        http_stress.refusals,
        {"texts": texts, "count": 200 // share},
        [("p99 of a refusal (429) by a full queue", "ms", _ms("p99"))],
    )
    slow = 1000 // share
    yield (
        http_stress.with_slow_clients,
        {"texts": texts, "rate": capacity / 2, "seconds": 60.0 / share, "sockets": slow},
        [
            (f"p99 beside {slow:,} sockets that send a byte a second", "times", _ratio),
            ("requests that failed beside them", "requests", _number("failed")),
        ],
    )
    for per_second in (100, 500):
        malformed = 10_000 // share
        what = f"{malformed:,} malformed requests, {per_second} a second"
        yield (
            http_stress.with_malformed_requests,
            {
                "texts": texts,
                "rate": capacity / 2,
                "count": malformed,
                "per_second": per_second,
            },
            [
                (f"p99 beside {what}", "times", _ratio),
                (f"answers of 500 to {what}", "requests", _number("faults")),
            ],
        )


def _lifetime_probes(texts: list[str], capacity: float, quick: bool) -> Iterator[Probe]:
    share = 20 if quick else 1
    first, count = 5000 // share, 100_000 // share
    yield (
        http_stress.memory_growth,
        {"texts": texts[:1], "first": first, "count": count},
        [
            (
                f"memory growth from request {first:,} to {count:,}",
                "mib",
                lambda found: (found["last"] - found["first"]) / 2**20,
            )
        ],
    )
    yield (
        http_stress.terminated_under_load,
        {"texts": texts, "rate": 0.9 * capacity, "seconds": 10.0 if not quick else 2.0},
        [
            (
                "accepted requests lost after SIGTERM at 90 % of capacity",
                "requests",
                _number("lost"),
            ),
            ("exit status after SIGTERM", "status", _number("status")),
        ],
    )


def _number(name: str) -> Callable[[dict[str, float]], float]:
    return lambda found: found[name]


def _ms(name: str) -> Callable[[dict[str, float]], float]:
    return lambda found: 1000 * found[name]


def _ratio(found: dict[str, float]) -> float:
    return found["p99"] / found["p99_alone"]
