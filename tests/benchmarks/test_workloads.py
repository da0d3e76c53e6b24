"""The workloads on contenders made for the test: which are timed, which are refused, and why."""

import asyncio
import os
import time
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.contenders.contender import Contender
from benchmarks.data.corpus import mixed_lengths
from benchmarks.data.models import Model
from benchmarks.harness import passes
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.job import JobUsage
from benchmarks.harness.results import append, read
from benchmarks.harness.worker import Worker
from benchmarks.harness.worker_pool import WorkerPool
from benchmarks.harness.worker_process import RefusedError
from benchmarks.reporting.tables import markdown
from benchmarks.workloads import (
    cold_start,
    corpus,
    http,
    http_limits,
    http_limits_all_cpus,
    live,
    memory,
    mixed,
    offered_load,
    ragged,
)


def vectors(texts):
    """Return answers of length 1 that differ from text to text."""
    found = np.array(
        [[len(text), sum(map(ord, text)) % 97 + 1, ord(text[0])] for text in texts], np.float32
    )
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def first_ids(batches):
    """Return what `Correct.run` answers to batches."""
    return np.concatenate([inputs[0][:, :3] for inputs in batches]).astype(np.float32)


class Correct:
    """Answers as the reference does, after a delay."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def answer(self, texts):
        time.sleep(self.seconds)
        return vectors(texts)

    def run(self, input_ids, attention_mask, token_type_ids):
        return input_ids[:, :3].astype(np.float32)


class Live(Correct):
    """Also has a live batcher, which gives each request its own answer."""

    async def live_answer(self, text):
        await asyncio.sleep(0)
        return self.answer([text])[0]


class MixesUp(Correct):
    """Has a batcher that answers the previous request's text."""

    last = "?"

    async def live_answer(self, text):
        await asyncio.sleep(0)
        before, self.last = self.last, text
        return vectors([before])[0]


class Full(Correct):
    """Has a batcher whose queue is full every second time."""

    requests = 0

    async def live_answer(self, text):
        self.requests += 1
        if self.requests % 2:
            raise OverflowError("full")
        return vectors([text])[0]


class Wrong(Correct):
    def answer(self, texts):
        return vectors(texts)[:, ::-1].copy()


class Fails(Correct):
    def answer(self, texts):
        raise RuntimeError("no such kernel")


class InProcess:
    """A worker without its own process and pipe."""

    def __init__(self, name, config):
        loaded = MODELS[name]
        self.worker = Worker(
            Contender(
                name,
                "float32",
                ("numpy",),
                missing=lambda: "it is not installed" if loaded is None else None,
                load=lambda *_: loaded,
                tasks=("embeddings",),
            )
        )

    def call(self, verb, *, timeout=600, **arguments):
        try:
            return getattr(self.worker, verb)(**arguments)
        except RuntimeError as error:
            raise RefusedError(f"{verb} failed: {error}") from error

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


MODELS = {}


@contextmanager
def worker_pool(config, model, task, names):
    pool = WorkerPool()
    for name in names:
        process = InProcess(name, config)
        described = process.call("describe")
        if described["missing"]:
            pool.refused[name] = described["missing"]
            continue
        process.call("load", model=model, task=task, folder="", threads=1)
        pool.workers[name], pool.described[name] = process, described
    yield pool


def prepare_once(config, name, model, task, process=None):
    if MODELS[name] is None:
        raise RefusedError("it is not installed")
    return config.folder


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measure a workload with these contenders; return the rows as the results file has them."""
    model = Model("minilm", str(tmp_path / "model"), "random", 2, 3, 4, 0, 1200)
    (tmp_path / "model" / "embeddings").mkdir(parents=True)
    (tmp_path / "model" / "embeddings" / "model.safetensors").write_bytes(b"weights")
    config = BenchConfig(
        tmp_path, threads=1, rounds=4, seconds=0.0, turn=0.0, quick=True, report=lambda _: None
    )
    for module in (mixed, live, http, http_limits, corpus, cold_start, memory):
        monkeypatch.setattr(module, "reference_answers_to_texts", lambda *args: vectors(args[-1]))
    monkeypatch.setattr(ragged, "reference_answers", lambda *_, batches: first_ids(batches))
    for module in (mixed, ragged, live, http, http_limits, corpus):
        monkeypatch.setattr(module, "worker_pool", worker_pool)
    for module in (passes, live, http, offered_load):
        monkeypatch.setattr(module, "_PAUSE", 0.0)
    for module in (cold_start, memory):
        monkeypatch.setattr(module, "WorkerProcess", InProcess)
    for module in (cold_start, memory, http):
        monkeypatch.setattr(module, "prepare_once", prepare_once)
    monkeypatch.setattr(memory, "_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(live, "_QUICK_PASS_SECONDS", 0.1)
    monkeypatch.setattr(live, "_QUICK_CAPACITY_SECONDS", 0.05)
    monkeypatch.setattr(live, "_QUICK_TEXTS", 8)
    monkeypatch.setattr(http, "_TEXTS", 8)
    monkeypatch.setattr(http, "_TURN_SECONDS", 0.05)
    monkeypatch.setattr(http, "_QUICK_OFFER_SECONDS", 0.1)

    def measure(module, **contenders):
        MODELS.clear()
        MODELS.update(contenders)
        machine = {"cpu": "", "flags": [], "cores": 1, "threads": 1, "system": "", "python": ""}
        shared = {"run": "1", "commit": "", "machine": machine}
        rows = list(module.measure(config, model, "embeddings", list(contenders)))
        append(tmp_path / "results.jsonl", ({**shared, **row} for row in rows))
        rows = read(tmp_path / "results.jsonl")
        assert markdown(rows)
        return {(row["contender"], row["shape"]): row for row in rows}

    return measure


def test_mixed_times_correct_contenders_and_refuses_the_others(measured):
    rows = measured(mixed, eager=Correct(0.01), ort_plain=Wrong(), sdpa=Fails(), bertrt=Correct())
    assert set(rows) == {(name, "256 texts") for name in ("eager", "ort_plain", "sdpa", "bertrt")}
    eager, wrong, failed, bertrt = rows.values()
    assert bertrt["metric"] == "texts_per_s"
    assert bertrt["p20"] <= bertrt["median"] <= bertrt["p80"]
    assert bertrt["n"] == eager["n"] == 3
    assert bertrt["speedup"]["eager"][0] > 1 > eager["speedup"]["bertrt"][0]
    assert bertrt["error"]["worst_cosine"] == pytest.approx(1)
    assert wrong["reason"].startswith("wrong answer to 256 texts: the worst cosine")
    assert "median" not in wrong
    assert wrong["error"]["worst_cosine"] < 0.99
    assert failed["reason"] == "answer failed: no such kernel"


class WrongIds(Correct):
    def run(self, input_ids, attention_mask, token_type_ids):
        return input_ids[:, 2::-1].astype(np.float32)


def test_all_contenders_get_the_same_ragged_batches(measured):
    rows = measured(ragged, eager=Correct(), sdpa=WrongIds(), bertrt=Correct())
    eager, wrong, bertrt = rows.values()
    assert set(rows) == {(name, "128 texts") for name in ("eager", "sdpa", "bertrt")}
    assert bertrt["n"] == eager["n"] == 3
    assert bertrt["settings"] == {"threads": 1, "corpus_seed": 5, "batch": 32}
    assert wrong["reason"].startswith("wrong answer to 128 texts: ")


def test_ragged_batches_have_the_lengths_of_the_corpus():
    model = Model("minilm", "", "random", 2, 3, 4, 0, 1200)
    batches = ragged.batches(model, 70, 32)
    assert [len(inputs.input_ids) for inputs in batches] == [32, 32, 6]
    lengths = [int(n) for inputs in batches for n in inputs.attention_mask.sum(axis=1)]
    assert lengths == mixed_lengths(70)
    assert len(set(lengths)) > 20


def test_all_contenders_are_offered_the_same_load(measured):
    rows = measured(live, ort_plain=Correct(0.001), bertrt=Live(0.002), sdpa=None, optimum=Fails())
    timed = {key: row for key, row in rows.items() if row["status"] == "timed"}
    loads = ["50 % of capacity", "90 % of capacity", "160 % of capacity"]
    names = ["ort_plain", "bertrt", "bertrt_live"]
    assert list(timed) == [(name, load) for load in loads for name in names]
    for load in loads:
        [rate] = {timed[name, load]["rate"] for name in names}
        assert rate == pytest.approx(
            timed["bertrt", load]["load"] * rows["bertrt", load]["capacity"]
        )
        [n] = {timed[name, load]["n"] for name in names}
        assert n == 3 * max(1, round(rate * 0.1))
    for row in timed.values():
        assert 0 < row["p20_ms"] <= row["median_ms"] <= row["p80_ms"] <= row["p95_ms"]
        assert row["p95_ms"] <= row["p99_ms"]
        assert row["throughput"] > 0
        assert row["error"]["worst_cosine"] == pytest.approx(1)
    assert timed["bertrt_live", loads[0]]["title"].endswith(", live batcher")
    assert set(timed["bertrt", loads[0]]["speedup"]) == {"ort_plain", "bertrt_live"}
    assert rows["sdpa", ""]["reason"] == "it is not installed"
    assert rows["optimum", ""]["reason"] == "apply failed: no such kernel"


def test_contenders_that_serve_nothing_are_refused(measured):
    assert [row["reason"] for row in measured(live, sdpa=None).values()] == ["it is not installed"]

    class AlwaysFull(Correct):
        async def live_answer(self, text):
            raise OverflowError("full")

    rows = measured(live, bertrt=AlwaysFull(0.001))
    assert rows["bertrt_live", "50 % of capacity"]["reason"] == "every request was turned away"


def test_a_batcher_that_mixes_up_answers_is_refused(measured):
    rows = measured(live, bertrt=MixesUp(0.001))
    assert rows["bertrt", "90 % of capacity"]["status"] == "timed"
    row = rows["bertrt_live", "90 % of capacity"]
    assert row["reason"].startswith("wrong answer under load: the worst cosine")
    assert "p99_ms" not in row


def test_a_failing_batcher_does_not_affect_calls_one_at_a_time(measured):
    class Broken(Correct):
        async def live_answer(self, text):
            raise RuntimeError("no loop")

    rows = measured(live, bertrt=Broken(0.001))
    for load in ("50 % of capacity", "90 % of capacity", "160 % of capacity"):
        assert rows["bertrt", load]["status"] == "timed"
        assert rows["bertrt_live", load]["reason"] == "apply failed: no loop"


def test_requests_turned_away_by_a_full_queue_are_counted(measured):
    rows = measured(live, bertrt=Full(0.001))
    row = rows["bertrt_live", "50 % of capacity"]
    offered = rows["bertrt", "50 % of capacity"]["n"]
    assert row["turned_away"] + row["n"] == offered
    assert abs(row["turned_away"] - row["n"]) <= 3


def test_a_contender_far_below_the_load_is_not_tried(measured):
    rows = measured(live, ort_plain=Correct(0.03), bertrt=Correct(0.001))
    assert "one at a time, and" in rows["ort_plain", "160 % of capacity"]["reason"]
    assert rows["bertrt", "160 % of capacity"]["status"] == "timed"


def test_the_parts_of_a_cold_start_add_up(measured):
    rows = measured(cold_start, eager=Correct(), ort_plain=Wrong(), sdpa=None, optimum=Fails())
    parts = [rows["eager", part] for part in cold_start.PARTS]
    assert all(row["n"] == 3 for row in parts)
    assert parts[0]["median_ms"] >= max(row["median_ms"] for row in parts[1:])
    assert rows["ort_plain", ""]["reason"].startswith("wrong answer: the worst cosine")
    assert rows["sdpa", ""]["reason"] == "it is not installed"
    assert rows["optimum", ""]["reason"] == "answer failed: no such kernel"


def test_peak_memory_never_decreases(measured):
    rows = measured(memory, eager=Correct(), bertrt=Correct(), ort_plain=Wrong())
    steps = ["loaded", "1x128", "8x128", "256 texts", "idle"]
    assert [shape for name, shape in rows if name == "eager"] == steps
    sizes = [rows["eager", step]["median"] for step in steps]
    assert 1 < sizes[1] <= sizes[2] <= sizes[3]
    assert rows["eager", "idle"]["metric"] == "mib"
    assert rows["bertrt", "idle"]["speedup"]["eager"][0] == pytest.approx(1, rel=0.2)
    assert rows["ort_plain", ""]["reason"].startswith("wrong answer: the worst cosine")


class Served(Correct):
    """A server of its own: it takes lists of texts, and says what it used."""

    def __init__(self, seconds=0.0, cpu=0.25):
        super().__init__(seconds)
        self.used, self.each = 0.0, cpu

    async def live_answers(self, texts):
        await asyncio.sleep(self.seconds)
        self.used += self.each * len(texts)
        return vectors(texts)

    async def live_answer(self, text):
        return (await self.live_answers([text]))[0]

    def cpu_seconds(self):
        return self.used

    def memory_bytes(self):
        return 3 << 20


class Job(Correct):
    """Runs a job on texts, which has used 4 ms of CPU for each."""

    def run_on(self, texts):
        return JobUsage(self.seconds, 0.004 * len(texts)), self.answer(texts)


class WrongJob(Job):
    def answer(self, texts):
        return vectors(texts)[::-1]


def test_jobs_are_timed_whole(measured):
    rows = measured(
        corpus,
        bertrt_loop=Job(0.5),
        bertrt_batch=Job(1.0),
        bertrt_batch_ray=WrongJob(0.1),
        ray_data_sentence_transformers=None,
    )
    ceiling, ours, wrong, missing = (rows[name, "1024 rows"] for name in MODELS)
    assert (ceiling["median"], ours["median"]) == (pytest.approx(2048), pytest.approx(1024))
    assert ours["metric"] == "texts_per_s"
    assert ours["cpu_ms"] == pytest.approx(4)
    assert ours["speedup"]["bertrt_loop"][0] == pytest.approx(0.5)
    assert wrong["reason"].startswith("wrong answer to 1024 rows: the worst cosine")
    assert wrong["error"]["worst_cosine"] < 0.99
    assert missing["reason"] == "it is not installed"


def test_servers_are_compared_with_the_batcher_in_process(measured):
    rows = measured(
        http,
        bertrt=Served(0.001),
        bertrt_serve=Served(0.002),
        fastapi=Served(0.05, cpu=0.5),
        fastapi_batched=Wrong(),
        infinity=None,
    )
    one, many = "busy clients, 1 text a request", "busy clients, 32 texts a request"
    for shape in (one, many):
        ceiling, ours, fastapi = (
            rows[name, shape] for name in ("bertrt_live", "bertrt_serve", "fastapi")
        )
        assert ceiling["title"].endswith("in process, live batcher")
        assert ours["metric"] == "texts_per_s"
        assert ours["speedup"]["fastapi"][0] > 2
        assert ours["speedup"]["bertrt_live"][0] < 1.2
        # Seconds for each text, as the server counts them.
        assert ours["cpu_ms"] == pytest.approx(250)
        assert fastapi["cpu_ms"] == pytest.approx(500)
        assert ours["memory_mib"] == 3
    settings = rows["bertrt_serve", many]["settings"]
    assert settings["in_flight"] == 8
    assert settings["rounds"] == 3
    assert settings["spread"] >= 1
    common = rows["bertrt_serve", "90 % of the capacity of FastAPI, sentence-transformers"]
    assert common["rate"] == pytest.approx(0.9 * rows["fastapi", one]["median"])
    half = rows["bertrt_serve", "50 % of the capacity of bertrt in process, live batcher"]
    assert half["load"] == pytest.approx(0.5)
    assert half["lag_ms"] < 1000
    assert half["cpu_ms"] == pytest.approx(250)
    # What arrives is far above what it answers, and it is not tried.
    slow = rows["fastapi", "50 % of the capacity of bertrt in process, live batcher"]
    assert slow["reason"].startswith("it answers ")
    assert rows["fastapi_batched", ""]["reason"].startswith("wrong answer to 8 texts")
    assert rows["infinity", ""]["reason"] == "it is not installed"


def test_the_limits_of_a_server_are_numbers_or_reasons(measured, monkeypatch):
    def probes(texts, capacity, quick):
        assert capacity > 1
        yield (
            lambda loaded, count: {"lost": count},
            {"count": 2},
            [
                ("lost requests", "requests", http_limits._number("lost")),
                ("the same in ms", "ms", http_limits._ms("lost")),
            ],
        )

        def fail(loaded):
            raise RuntimeError("the server ended with status 3")

        yield fail, {}, [("never found", "ms", http_limits._ms("p99"))]

    monkeypatch.setattr(http_limits, "_probes", probes)
    rows = measured(http_limits, bertrt_serve=Served())
    assert rows["bertrt_serve", "lost requests"]["median"] == 2
    assert rows["bertrt_serve", "the same in ms"]["median"] == 2000
    assert rows["bertrt_serve", "the same in ms"]["found"] == {"lost": 2}
    failed = rows["bertrt_serve", "never found"]
    assert failed["reason"] == "apply failed: the server ended with status 3"


def test_every_limit_is_asked_for_with_the_arguments_of_its_function():
    import inspect

    for quick in (True, False):
        for function, arguments, numbers in http_limits._probes(["text"] * 64, 10.0, quick):
            inspect.signature(function).bind(None, **arguments)
            assert numbers


def test_rows_on_all_cpus_say_so_and_the_process_is_pinned_again(measured, monkeypatch):
    pinned = os.sched_getaffinity(0)
    seen = []

    def probes(texts, capacity, quick):
        seen.append(os.sched_getaffinity(0))
        yield (
            lambda loaded: {"lost": 0},
            {},
            [("lost requests", "requests", http_limits._number("lost"))],
        )

    monkeypatch.setattr(http_limits, "latency_probes", probes)
    one = min(pinned)
    os.sched_setaffinity(0, {one})
    try:
        rows = measured(http_limits_all_cpus, bertrt_serve=Served())
        assert os.sched_getaffinity(0) == {one}
    finally:
        os.sched_setaffinity(0, pinned)
    assert seen == [pinned]
    row = rows["bertrt_serve", "lost requests"]
    assert row["workload"] == "http_limits_all_cpus"
    assert row["settings"]["cpus"] == len(pinned)
