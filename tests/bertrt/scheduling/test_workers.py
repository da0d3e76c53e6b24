"""Batches side by side: the answers of one after the other, in their order, and no idle session."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.errors import BertrtError, InputError
from bertrt.scheduling.workers import Workers, choose_workers, finish_together, run_in_order

TEXTS = [f"the {'cat ' * (i * 7 % 23)}[MASK] sat" for i in range(60)]


def test_choose_workers() -> None:
    assert choose_workers("auto", threads=1) == 1
    assert choose_workers("auto", threads=6) == 6
    assert choose_workers("auto", threads=6, device="cuda") == 1
    assert choose_workers(4, threads=6) == 4
    assert choose_workers(1, threads=6, device="cuda") == 1


@pytest.mark.parametrize(
    ("workers", "device", "message"),
    [
        (0, "cpu", "workers is 0: give a whole number of at least 1"),
        (True, "cpu", "workers is True"),
        ("many", "cpu", "workers is 'many'"),
        (3, "cpu", "workers is 3, and threads are 2: give at most 2, or 'auto'"),
        (2, "cuda", "workers is 2, and a GPU runs one batch at a time: give at most 1"),
    ],
)
def test_refuses(workers: Any, device: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_workers(workers, threads=2, device=device)


@pytest.mark.parametrize(
    ("sizes", "workers", "expected"),
    [
        ([], 2, True),  # nothing to do, and nobody waits
        ([5], 2, False),
        ([5, 5], 2, True),
        ([5, 5], 3, False),
        ([8, 7], 2, True),  # one waits for a sixteenth of the time of both
        ([8, 6], 2, False),  # for an eighth
        ([5, 5, 5], 2, False),
        ([4, 4, 3, 3, 3, 3], 2, True),
        ([1, 1, 8], 2, False),
        ([8, 4, 4], 2, True),
    ],
)
def test_finish_together(sizes: list[int], workers: int, expected: bool) -> None:
    assert finish_together(sizes, workers) is expected


@pytest.mark.parametrize("workers", [None, Workers(2), Workers(5)])
def test_results_come_in_the_order_of_the_calls(workers: Workers | None) -> None:
    def call(number: int) -> int:
        threading.Event().wait(0.002 * (number % 3))
        return number

    assert list(run_in_order((partial(call, i) for i in range(40)), workers)) == list(range(40))
    assert list(run_in_order([], workers)) == []


def test_without_workers_a_call_is_made_when_it_is_asked_for() -> None:
    made: list[int] = []
    results = run_in_order((partial(made.append, i) for i in range(3)), None)
    assert made == []
    next(results)
    assert made == [0]


def test_as_many_as_there_are_workers_and_a_few_ahead() -> None:
    lock, asked = threading.Lock(), 0
    running = most = 0
    together = threading.Barrier(3, timeout=60)  # breaks unless three run at a time

    def calls() -> Iterator[Callable[[], int]]:
        nonlocal asked
        for number in range(30):
            asked += 1
            yield partial(call, number)

    def call(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1
        return number

    results = run_in_order(calls(), Workers(3))
    for number in range(30):
        assert next(results) == number
        assert asked <= number + 2 * 3 + 1
    assert most == 3


@pytest.mark.parametrize("workers", [None, Workers(3)])
def test_an_error_comes_in_its_place_and_ends_it(workers: Workers | None) -> None:
    made: list[int] = []

    def call(number: int) -> int:
        made.append(number)
        if number == 4:
            raise ValueError("the fourth")
        return number

    results = run_in_order((partial(call, i) for i in range(1000)), workers)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert len(made) <= 4 + 2 * (workers.count if workers else 0) + 1


def test_results_that_nobody_takes_are_not_computed() -> None:
    made: list[int] = []
    workers = Workers(2)
    results = run_in_order((partial(made.append, i) for i in range(1000)), workers)
    next(results)
    results.close()
    assert len(made) <= 1 + 2 * 2
    workers.submit(lambda: None).result(60)  # after all that were accepted
    assert len(made) <= 1 + 2 * 2


def test_callers_share_the_workers() -> None:
    """However many call at the same time, no more run than there are workers."""
    workers, lock = Workers(2), threading.Lock()
    running = most = 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: list(run_in_order([call] * 20, workers)), range(8)))
    assert most == 2


def test_workers_end_with_their_runtime() -> None:
    workers = Workers(2)
    assert list(run_in_order([lambda: 1, lambda: 2], workers)) == [1, 2]
    copy = pickle.loads(pickle.dumps(workers))
    threads = set(workers._pool.get()._threads)
    workers.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    with pytest.raises(BertrtError, match="closed"):
        list(run_in_order([lambda: 1], workers))
    assert list(run_in_order([lambda: 3], copy)) == [3]
    copy.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads of each session that is opened, after an artifact was `made`."""
    found: list[int] = []
    original = OrtCpuSession._make
    monkeypatch.setattr(
        OrtCpuSession, "_make", lambda self: found.append(self._options.threads) or original(self)
    )
    return found


@pytest.fixture
def made(make_artifact: Callable[..., Path], opened: list[int]) -> Callable[[str], Path]:
    """A factory: class name to an artifact, the sessions of whose export are not counted."""

    def make(class_name: str) -> Path:
        artifact = make_artifact(class_name)
        opened.clear()
        return artifact

    return make


@pytest.mark.parametrize(
    ("class_name", "inputs"),
    [
        ("BertForMaskedLM", TEXTS),
        ("BertForSequenceClassification", TEXTS),
        ("BertForTokenClassification", TEXTS),
        (
            "BertForQuestionAnswering",
            [{"question": "where is mary", "context": f"mary {t} in paris"} for t in TEXTS],
        ),
    ],
)
def test_answers_are_those_of_one_session(
    class_name: str, inputs: list[Any], made: Callable[[str], Path], opened: list[int]
) -> None:
    artifact = made(class_name)
    with bertrt.load(artifact, threads=2, max_batch_tokens=50, workers=1) as rt:
        expected = rt(inputs)
        assert opened == [2]
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        done: list[int] = []
        answers = rt(inputs, progress=lambda count, total, what: done.append(count))
        assert opened == [2, 1]
    assert done == sorted(done)
    assert done[-1] == len(inputs)
    assert plain(answers) == plain(expected)


def plain(answers: Any) -> Any:
    """Answers with scores as strings of so many digits as rounding leaves alone."""
    if isinstance(answers, dict):
        return {name: plain(value) for name, value in answers.items()}
    if isinstance(answers, list):
        return [plain(one) for one in answers]
    return f"{answers:.4f}" if isinstance(answers, float) else answers


def test_vectors(made: Callable[[str], Path], opened: list[int]) -> None:
    texts = [text.replace("[MASK]", "cat") for text in TEXTS]
    artifact = made("BertModel")
    with bertrt.load(artifact, threads=3, max_batch_tokens=50) as rt:
        alone = np.stack([rt.embed(text) for text in texts])
        assert opened == [3]
        np.testing.assert_allclose(rt.embed(texts), alone, atol=1e-5)
        np.testing.assert_allclose(list(rt.embed(iter(texts))), alone, atol=1e-5)
        assert opened == [3, 1]


def test_arrays(made: Callable[[str], Path], opened: list[int]) -> None:
    """Rows keep their places, whoever computed them; masks too, of which nobody knows how many."""
    ids = np.random.default_rng(7).integers(5, 200, (13, 9))
    ids[0, 3:6] = ids[6, 2] = ids[12, 1:9:2] = 4  # [MASK]
    artifact = made("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=10_000) as rt:
        whole, masks = rt.run(input_ids=ids), rt.run(input_ids=ids, masked_only=True)
        assert opened == [2]
    with bertrt.load(artifact, threads=2, max_batch_tokens=20) as rt:
        np.testing.assert_allclose(rt.run(input_ids=ids).logits, whole.logits, atol=1e-5)
        shared = rt.run(input_ids=ids, masked_only=True)
        assert opened == [2, 1]
    assert shared.logits.shape == masks.logits.shape == (8, 1, whole.logits.shape[-1])
    np.testing.assert_allclose(shared.logits, masks.logits, atol=1e-5)


def test_few_texts_and_uneven_shares_are_run_by_all_threads(
    made: Callable[[str], Path], opened: list[int]
) -> None:
    artifact = made("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        rt(TEXTS[:2])
        rt.run(input_ids=np.full((3, 40), 5))  # one worker would have two rows of three
        assert opened == [2]
        rt.run(input_ids=np.full((4, 40), 5))
        assert opened == [2, 1]


def test_a_stream_shares_the_session_of_as_many_workers(
    made: Callable[[str], Path], opened: list[int]
) -> None:
    artifact = made("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        expected = rt(TEXTS, top_k=1)
        with rt.batcher() as stream:
            assert plain(stream(TEXTS[3], top_k=1)) == plain(expected[3])
        assert plain(rt(TEXTS, top_k=1)) == plain(expected)
        assert opened == [1]
    opened.clear()
    with bertrt.load(artifact, threads=4, max_batch_tokens=50) as rt, rt.batcher() as stream:
        stream(TEXTS[3])
        rt(TEXTS)
        assert opened == [3, 1]


def test_many_callers_and_the_end(made: Callable[[str], Path], opened: list[int]) -> None:
    artifact = made("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        expected = plain(rt(TEXTS, top_k=1))
        copy = pickle.loads(pickle.dumps(rt))
        with ThreadPoolExecutor(8) as pool:
            for answers in pool.map(lambda _: rt(TEXTS, top_k=1), range(8)):
                assert plain(answers) == expected
        assert opened == [1]
        assert plain(copy(TEXTS, top_k=1)) == expected
        copy.close()
    for closed in (rt, copy):
        with pytest.raises(BertrtError, match="closed"):
            closed(TEXTS)


def test_it_is_told(make_artifact: Callable[..., Path]) -> None:
    artifact = make_artifact("BertForMaskedLM")
    with bertrt.load(artifact, threads=4) as rt:
        assert (rt.info["workers"], rt.info["worker_max_batch_tokens"]) == (4, 256)
    with bertrt.load(artifact, threads=4, workers=2, max_batch_tokens=77) as rt:
        assert (rt.info["workers"], rt.info["worker_max_batch_tokens"]) == (2, 77)
    with bertrt.load(artifact, threads=1) as rt:
        assert rt.info["workers"] == 1
        assert rt.info["worker_max_batch_tokens"] == rt.info["max_batch_tokens"]


FORK = """
import os, sys, bertrt
rt = bertrt.load(sys.argv[1], threads=2, max_batch_tokens=50)
texts = [f"the {'cat ' * (i * 7 % 23)}[MASK] sat" for i in range(60)]
expected = [one[0]["token"] for one in rt(texts)]
child = os.fork()
if child == 0:
    os._exit([one[0]["token"] for one in rt(texts)] != expected)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert [one[0]["token"] for one in rt(texts)] == expected
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork(make_artifact: Callable[..., Path]) -> None:
    command = [sys.executable, "-c", FORK, str(make_artifact("BertForMaskedLM"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
