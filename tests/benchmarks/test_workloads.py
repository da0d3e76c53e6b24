"""The workloads on contenders made for the test: who is timed, who is refused, and why."""

import asyncio
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

import passes
from bench import Bench
from corpus import mixed_lengths
from crew import Crew
from models import Model
from process import Refused
from results import append, read
from tables import markdown
from worker import Worker
from workloads import cold_start, memory, mixed, ragged, stream


def vectors(texts):
    """Answers that differ from text to text, of length 1."""
    found = np.array(
        [[len(text), sum(map(ord, text)) % 97 + 1, ord(text[0])] for text in texts], np.float32
    )
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def first_ids(batches):
    """What `Right.run` answers to batches."""
    return np.concatenate([inputs[0][:, :3] for inputs in batches]).astype(np.float32)


class Right:
    """Answers as the reference does, after a while."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def answer(self, texts):
        time.sleep(self.seconds)
        return vectors(texts)

    def run(self, input_ids, attention_mask, token_type_ids):
        return input_ids[:, :3].astype(np.float32)


class Live(Right):
    """Has a live batcher too, which gives each request its own answer."""

    async def live_answer(self, text):
        await asyncio.sleep(0)
        return self.answer([text])[0]


class MixesUp(Right):
    """Its batcher answers with the text that came before."""

    last = "?"

    async def live_answer(self, text):
        await asyncio.sleep(0)
        before, self.last = self.last, text
        return vectors([before])[0]


class Full(Right):
    """Its batcher's queue is full every other time."""

    asked = 0

    async def live_answer(self, text):
        self.asked += 1
        if self.asked % 2:
            raise OverflowError("full")
        return vectors([text])[0]


class Wrong(Right):
    def answer(self, texts):
        return vectors(texts)[:, ::-1].copy()


class Fails(Right):
    def answer(self, texts):
        raise RuntimeError("no such kernel")


class Here:
    """A worker's verbs without the process and the pipe."""

    def __init__(self, name, bench):
        self.contender = CONTENDERS[name]
        self.worker = Worker(
            SimpleNamespace(
                TITLE=name,
                TASKS=("embeddings",),
                PRECISION="float32",
                PACKAGES=("numpy",),
                missing=lambda: "it is not installed" if self.contender is None else None,
                load=lambda *_: self.contender,
            )
        )

    def call(self, verb, *, timeout=600, **arguments):
        try:
            return getattr(self.worker, verb)(**arguments)
        except RuntimeError as error:
            raise Refused(f"{verb} failed: {error}") from error

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


CONTENDERS = {}


@contextmanager
def crew(bench, model, task, names):
    result = Crew()
    for name in names:
        process = Here(name, bench)
        described = process.call("describe")
        if described["missing"]:
            result.refused[name] = described["missing"]
            continue
        process.call("load", model=vars(model), task=task, folder="", threads=1)
        result.workers[name], result.described[name] = process, described
    yield result


def prepared(bench, name, model, task):
    if CONTENDERS[name] is None:
        raise Refused("it is not installed")
    return bench.folder


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measure a workload with these contenders; the rows, as the results file returns them."""
    model = Model("minilm", str(tmp_path / "model"), "random", 2, 3, 4, 0, 1200)
    (tmp_path / "model" / "embeddings").mkdir(parents=True)
    (tmp_path / "model" / "embeddings" / "model.safetensors").write_bytes(b"weights")
    bench = Bench(
        tmp_path, threads=1, rounds=4, seconds=0.0, turn=0.0, quick=True, tell=lambda _: None
    )
    for module in (mixed, stream, cold_start, memory):
        monkeypatch.setattr(module, "expected_answers", lambda *args: vectors(args[-1]))
    monkeypatch.setattr(ragged, "expected_of", lambda *_, batches: first_ids(batches))
    for module in (mixed, ragged, stream):
        monkeypatch.setattr(module, "crew", crew)
    for module in (passes, stream):
        monkeypatch.setattr(module, "_PAUSE", 0.0)
    for module in (cold_start, memory):
        monkeypatch.setattr(module, "Process", Here)
        monkeypatch.setattr(module, "prepared", prepared)
    monkeypatch.setattr(memory, "_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(stream, "_QUICK_PASS_SECONDS", 0.1)
    monkeypatch.setattr(stream, "_CAPACITY_SECONDS", 0.05)
    monkeypatch.setattr(stream, "_QUICK_TEXTS", 8)

    def measure(module, **contenders):
        CONTENDERS.clear()
        CONTENDERS.update(contenders)
        machine = {"cpu": "", "flags": [], "cores": 1, "threads": 1, "system": "", "python": ""}
        facts = {"run": "1", "commit": "", "machine": machine}
        rows = list(module.measure(bench, model, "embeddings", list(contenders)))
        append(tmp_path / "results.jsonl", ({**facts, **row} for row in rows))
        rows = read(tmp_path / "results.jsonl")
        assert markdown(rows)
        return {(row["contender"], row["shape"]): row for row in rows}

    return measure


def test_mixed_times_who_is_right_and_refuses_the_rest(measured):
    rows = measured(mixed, eager=Right(0.01), ort_plain=Wrong(), sdpa=Fails(), bertrt=Right())
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


class WrongIds(Right):
    def run(self, input_ids, attention_mask, token_type_ids):
        return input_ids[:, 2::-1].astype(np.float32)


def test_ragged_batches_are_given_to_all(measured):
    rows = measured(ragged, eager=Right(), sdpa=WrongIds(), bertrt=Right())
    eager, wrong, bertrt = rows.values()
    assert set(rows) == {(name, "128 texts") for name in ("eager", "sdpa", "bertrt")}
    assert bertrt["n"] == eager["n"] == 3
    assert bertrt["settings"] == {"threads": 1, "corpus_seed": 5, "batch": 32}
    assert wrong["reason"].startswith("wrong answer to 128 texts: ")


def test_ragged_batches_have_the_corpus_s_lengths():
    model = Model("minilm", "", "random", 2, 3, 4, 0, 1200)
    given = ragged.batches(model, 70, 32)
    assert [len(inputs.input_ids) for inputs in given] == [32, 32, 6]
    lengths = [int(n) for inputs in given for n in inputs.attention_mask.sum(axis=1)]
    assert lengths == mixed_lengths(70)
    assert len(set(lengths)) > 20


def test_the_stream_offers_everyone_the_same_load(measured):
    rows = measured(stream, ort_plain=Right(0.001), bertrt=Live(0.002), sdpa=None, optimum=Fails())
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
    assert rows["optimum", ""]["reason"] == "use failed: no such kernel"


def test_a_stream_without_anyone_or_with_a_shut_door_has_reasons_only(measured):
    assert [row["reason"] for row in measured(stream, sdpa=None).values()] == [
        "it is not installed"
    ]

    class Shut(Right):
        async def live_answer(self, text):
            raise OverflowError("full")

    rows = measured(stream, bertrt=Shut(0.001))
    assert rows["bertrt_live", "50 % of capacity"]["reason"] == "every request was turned away"


def test_a_batcher_that_mixes_up_answers_is_refused(measured):
    rows = measured(stream, bertrt=MixesUp(0.001))
    assert rows["bertrt", "90 % of capacity"]["status"] == "timed"
    live = rows["bertrt_live", "90 % of capacity"]
    assert live["reason"].startswith("wrong answer in the stream: the worst cosine")
    assert "p99_ms" not in live


def test_a_batcher_that_fails_leaves_one_by_one_alone(measured):
    class Broken(Right):
        async def live_answer(self, text):
            raise RuntimeError("no loop")

    rows = measured(stream, bertrt=Broken(0.001))
    for load in ("50 % of capacity", "90 % of capacity", "160 % of capacity"):
        assert rows["bertrt", load]["status"] == "timed"
        assert rows["bertrt_live", load]["reason"] == "use failed: no loop"


def test_requests_that_a_full_queue_turned_away_are_counted(measured):
    rows = measured(stream, bertrt=Full(0.001))
    live = rows["bertrt_live", "50 % of capacity"]
    asked = rows["bertrt", "50 % of capacity"]["n"]
    assert live["turned_away"] + live["n"] == asked
    assert abs(live["turned_away"] - live["n"]) <= 3


def test_a_contender_far_below_the_load_is_not_put_to_it(measured):
    rows = measured(stream, ort_plain=Right(0.03), bertrt=Right(0.001))
    assert "one by one, and" in rows["ort_plain", "160 % of capacity"]["reason"]
    assert rows["bertrt", "160 % of capacity"]["status"] == "timed"


def test_cold_start_s_parts_add_up(measured):
    rows = measured(cold_start, eager=Right(), ort_plain=Wrong(), sdpa=None, optimum=Fails())
    parts = [rows["eager", part] for part in cold_start.PARTS]
    assert all(row["n"] == 3 for row in parts)
    assert parts[0]["median_ms"] >= max(row["median_ms"] for row in parts[1:])
    assert rows["ort_plain", ""]["reason"].startswith("wrong answer: the worst cosine")
    assert rows["sdpa", ""]["reason"] == "it is not installed"
    assert rows["optimum", ""]["reason"] == "answer failed: no such kernel"


def test_memory_s_peak_only_grows(measured):
    rows = measured(memory, eager=Right(), bertrt=Right(), ort_plain=Wrong())
    steps = ["loaded", "1x128", "8x128", "256 texts", "idle"]
    assert [shape for name, shape in rows if name == "eager"] == steps
    sizes = [rows["eager", step]["median"] for step in steps]
    assert 1 < sizes[1] <= sizes[2] <= sizes[3]
    assert rows["eager", "idle"]["metric"] == "mib"
    assert rows["bertrt", "idle"]["speedup"]["eager"][0] == pytest.approx(1, rel=0.2)
    assert rows["ort_plain", ""]["reason"].startswith("wrong answer: the worst cosine")
