"""A live stream: requests come one at a time, at random, faster and faster.

Arrivals are a Poisson process, the same for everyone, put to each contender open loop
(`serving.py`): each text is a call of its own behind a queue, or goes to the contender's live
batcher, where it has one. The offered load is a share of what bertrt answers one by one, so that
all contenders meet the same number of texts a second.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench import Bench
from corpus import SEED, mixed
from crew import Crew, crew, groups
from gate import check
from models import Model
from process import Refused
from proof import expected_answers
from rounds import rotations, speedups, summary
from rows import Row, distinct, refused, timed
from serving import poisson

__all__ = ["CONTENDERS", "NAME", "TASKS", "measure"]

NAME = "stream"
TASKS = ("embeddings", "classification")
# Who is measured when nobody is named: one of each kind, for a load takes a while.
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
# Each load is put in passes, in turn with the other contenders.
_PASSES = 3
_PASS_SECONDS = 5.0
_QUICK_PASS_SECONDS = 3.0
# Capacity is the best of several turns: what else a machine does comes and goes by the minute.
_CAPACITY_TURNS, _CAPACITY_SECONDS = 5, 4.0
_QUICK_CAPACITY_TURNS, _QUICK_CAPACITY_SECONDS = 2, 2.0
# A queue that grows tells nothing more after a while, and takes as many times longer to empty.
_MOST_OVERLOAD = 2.5
_PAUSE = 0.3
# The offered load is a share of the first of these, or of the first contender there is.
_MEASURE = "bertrt"
_LIVE = "_live"


@dataclass(frozen=True)
class _Way:
    """A worker, the function of `serving` that asks it, and its texts a second one by one."""

    worker: str
    function: str
    capacity: float

    @property
    def name(self) -> str:
        return self.worker + (_LIVE if self.function == "live" else "")


@dataclass
class _Tally:
    """What the passes of one load came to, by one way; `why` they did not."""

    way: _Way
    latencies: list[np.ndarray] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    seconds: float = 0.0
    turned_away: int = 0
    error: dict[str, float] = field(default_factory=dict)
    why: str | None = None


def measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure latencies at every load; a row for each contender and load, timed or refused.

    A row has median_ms, p20_ms, p80_ms, p95_ms and p99_ms of n answered requests, and further
    `load` (the share), `rate` (texts offered a second), `throughput` (answered a second, until
    the last answer), `turned_away` (requests refused by a full queue) and `capacity` (what the
    contender answers a second one by one). `speedup` is of the passes' p99. The contender
    `bertrt_live` is bertrt's live batcher.
    """
    return distinct(_measure(bench, model, task, names))


def _measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    texts = mixed(_QUICK_TEXTS if bench.quick else _TEXTS)
    expected = expected_answers(bench, model, task, texts)
    weights = model.checkpoint(task) / "model.safetensors"
    whole = 0.0
    for group in groups(names, weights.stat().st_size, gpu_bytes=bench.gpu_bytes):
        with crew(bench, model, task, group) as running:
            ways = _ways(bench, running, texts)
            for name, reason in running.refused.items():
                yield refused(NAME, model, task, name, reason)
            if not ways:
                continue
            # The same rates in every group, though bertrt's capacity is measured again in each.
            whole = whole or _whole(ways)
            for load in _QUICK_LOADS if bench.quick else _LOADS:
                bench.tell(f"  a stream of {load * whole:.1f} texts/s, {_shape(load)}")
                tallies = [_Tally(way, why=_hopeless(way, load * whole)) for way in ways]
                _put(bench, running, texts, expected, tallies, load * whole)
                tails = {one.way.name: one.tails for one in tallies if one.why is None}
                for tally in tallies:
                    row = _row(bench, model, task, running, tally, tails, _shape(load))
                    yield {**row, "load": load, "rate": load * whole}


def _ways(bench: Bench, running: Crew, texts: list[str]) -> list[_Way]:
    """One way or two for each worker, all warm; who fails leaves the crew.

    Capacities are the best of several turns: what else runs on the machine can only lower them.
    """
    found = dict.fromkeys(running.workers, 0.0)
    turns = _QUICK_CAPACITY_TURNS if bench.quick else _CAPACITY_TURNS
    seconds = _QUICK_CAPACITY_SECONDS if bench.quick else _CAPACITY_SECONDS
    for order in rotations(list(found), turns):
        for name in order:
            if name not in found:
                continue
            arguments = {"texts": texts, "seconds": seconds}
            try:
                found[name] = max(found[name], _ask(running, name, "capacity", arguments))
            except Refused as reason:
                del found[name]
                running.dismiss(name, str(reason))
            time.sleep(_PAUSE)
    told = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
    bench.tell(f"  one by one, texts/s: {told}")
    ways = []
    for name, capacity in found.items():
        ways.append(_Way(name, "one_by_one", capacity))
        if _ask(running, name, "has_live", {}):
            ways.append(_Way(name, "live", capacity))
            # Its first batches; an error is one of the first pass too, and said there.
            with contextlib.suppress(Refused):
                _ask(running, name, "live", {"texts": texts, "arrivals": np.zeros(len(texts))})
    return ways


def _whole(ways: Sequence[_Way]) -> float:
    """The capacity that the offered load is a share of."""
    return next((way.capacity for way in ways if way.worker == _MEASURE), ways[0].capacity)


def _hopeless(way: _Way, rate: float) -> str | None:
    """Why a load is not put to a worker; None when it is."""
    if way.function == "live" or rate <= _MOST_OVERLOAD * way.capacity:
        return None
    return f"it answers {way.capacity:.3g} texts/s one by one, and {rate:.3g} come"


def _put(
    bench: Bench,
    running: Crew,
    texts: list[str],
    expected: np.ndarray,
    tallies: Sequence[_Tally],
    rate: float,
) -> None:
    """Put one load in every way, in passes."""
    seconds = _QUICK_PASS_SECONDS if bench.quick else _PASS_SECONDS
    by_name = {tally.way.name: tally for tally in tallies}
    for number, order in enumerate(rotations(list(by_name), _PASSES)):
        arrivals = poisson(rate, max(1, round(rate * seconds)), seed=number)
        for name in order:
            if by_name[name].why is None:
                _pass(running, by_name[name], texts, expected, arrivals)
                time.sleep(_PAUSE)


def _pass(
    running: Crew, tally: _Tally, texts: list[str], expected: np.ndarray, arrivals: np.ndarray
) -> None:
    """Serve one pass, prove each of its answers, and add up what it took."""
    way = tally.way
    try:
        served = _ask(running, way.worker, way.function, {"texts": texts, "arrivals": arrivals})
    except Refused as reason:
        tally.why = str(reason)
        return
    tally.turned_away += len(served["turned_away"])
    if len(served["turned_away"]) == len(arrivals):
        tally.why = "every request was turned away"
        return
    asked = np.setdiff1d(np.arange(len(arrivals)), served["turned_away"]) % len(texts)
    verdict = check(served["answers"], expected[asked], running.described[way.worker]["precision"])
    tally.error = _worse(tally.error, verdict.error)
    tally.why = verdict.wrong and f"wrong answer in the stream: {verdict.wrong}"
    tally.latencies.append(served["latencies"])
    tally.tails.append(float(np.percentile(served["latencies"], 99)))
    tally.seconds += served["seconds"]


def _row(
    bench: Bench,
    model: Model,
    task: str,
    running: Crew,
    tally: _Tally,
    tails: dict[str, list[float]],
    shape: str,
) -> Row:
    way = tally.way
    if tally.why is not None:
        row = refused(NAME, model, task, way.worker, tally.why, shape=shape, error=tally.error)
    else:
        latencies = np.concatenate(tally.latencies)
        p95, p99 = (float(1000 * x) for x in np.percentile(latencies, (95, 99)))
        row = timed(
            NAME,
            model,
            task,
            way.worker,
            shape=shape,
            versions=running.described[way.worker]["versions"],
            error=tally.error,
            **summary(latencies.tolist()),
            p95_ms=p95,
            p99_ms=p99,
            throughput=len(latencies) / tally.seconds,
            turned_away=tally.turned_away,
            speedup=speedups(tails, way.name),
            settings={"threads": bench.threads, "passes": _PASSES, "corpus_seed": SEED},
        )
    row["capacity"] = way.capacity
    if way.function == "live":
        row |= {"contender": way.name, "title": f"{row['title']}, live batcher"}
    return row


def _ask(running: Crew, name: str, function: str, arguments: dict[str, Any]) -> Any:
    """Past the crew, which would dismiss a worker whose batcher alone has failed."""
    worker = running.workers[name]
    return worker.call("use", module="serving", function=function, arguments=arguments)


def _worse(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """The worse of each of two errors' numbers: the smaller cosine, the larger difference."""
    best = {"worst_cosine": min, "argmax_agreement": min}
    return {key: best.get(key, max)(one.get(key, value), value) for key, value in other.items()}


def _shape(load: float) -> str:
    return f"{load:.0%} of capacity".replace("%", " %")
