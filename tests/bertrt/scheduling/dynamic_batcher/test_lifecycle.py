"""A batcher that is closed, freed, pickled, forked or left open at exit loses no request."""

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt
from bertrt import BertrtError

TEXTS = [
    "the cat sat on the mat",
    "plants create oxygen and sugar from light through a process",
    "a good film",
    "the dog and the cat and the cat and the dog sat on the mat by the river in paris",
]


def test_close_answers_accepted_requests(rt: Any, batches: Any) -> None:
    batcher = rt.batcher()
    batches.pause(batcher)
    futures = [batcher.submit(text) for text in TEXTS]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    time.sleep(0.02)
    with pytest.raises(BertrtError, match="this batcher is closed: open another"):
        batcher("a cat")
    assert closing.is_alive()
    batches.resume()
    closing.join(60)
    assert all(future.done() and future.result() for future in futures)
    batcher.close()
    assert rt.batcher()("a cat")


def test_close_can_cancel_waiting_requests(rt: Any, batches: Any) -> None:
    batcher = rt.batcher()
    started = batches.pause(batcher)
    futures = [batcher.submit(text) for text in TEXTS]
    closing = threading.Thread(target=batcher.close, kwargs={"cancel": True})
    closing.start()
    batches.resume()
    closing.join(60)
    assert started.result(0)
    assert all(future.cancelled() or future.result(0) for future in futures)
    assert len(batches.lengths) <= 2


def test_a_callback_may_close_the_batcher(rt: Any, batches: Any) -> None:
    batcher = rt.batcher()
    first = batches.pause(batcher)
    first.add_done_callback(lambda _: batcher.close())
    second = batcher.submit("it is")
    batches.resume()
    assert second.result(60)
    with pytest.raises(BertrtError, match="closed"):
        batcher("a cat")


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_a_runtime_closes_its_own_batchers_only(
    make_artifact: Callable[..., Path], threads: int
) -> None:
    rt = bertrt.load(make_artifact("BertForSequenceClassification"), threads=threads)
    other = bertrt.load(make_artifact("BertForSequenceClassification"), threads=threads)
    batcher, other_batcher = rt.batcher(), other.batcher()
    asyncio.run(rt.acall("a cat"))
    futures = [batcher.submit(text) for text in TEXTS]
    rt.close()
    assert all(future.done() and future.result() for future in futures)
    for call in (batcher, lambda text: asyncio.run(rt.acall(text)), lambda _: rt.batcher()):
        with pytest.raises(BertrtError, match="closed"):
            call("a cat")
    assert other_batcher("a cat")
    other.close()


def test_two_workers_open_only_the_narrow_session(make_artifact: Callable[..., Path]) -> None:
    with bertrt.load(make_artifact("BertModel"), threads=2, max_batch_tokens=77) as rt:
        with rt.batcher() as batcher:
            batcher.warmup([(1, 4)])
            assert batcher("a cat")
            assert rt._pool.wide.session._inner is None
            assert batcher._runner._session.threads.count == 1
            assert batcher._runner.max_batch_tokens == 77
        assert rt.info["threads"] == 2
        with rt.batcher(workers=1) as batcher:
            assert batcher("a cat")
            assert rt._pool.wide.session._inner is not None


def test_an_idle_batcher_keeps_nothing_alive(make_artifact: Callable[..., Path]) -> None:
    rt = bertrt.load(make_artifact("BertForSequenceClassification"), threads=1)
    batcher = rt.batcher()
    batcher("a cat")
    (worker,) = batcher._threads
    references = weakref.ref(rt), weakref.ref(batcher)
    future = batcher.submit("it is")  # answered, although the batcher is freed
    del rt, batcher
    assert future.result(60)
    del future
    worker.join(60)
    assert not worker.is_alive()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_pickled_batcher_answers_alike(rt: Any) -> None:
    expected = rt("a cat")
    asyncio.run(rt.acall("a cat"))
    with rt.batcher(max_waiting=3) as batcher:
        batcher.observe = lambda *_: None
        batcher("a cat")
        copy, runtime = pickle.loads(pickle.dumps((batcher, rt)))
    assert copy("a cat") == expected
    assert (copy._max_waiting, copy.observe) == (3, None)
    assert copy._runner is runtime._runner
    assert asyncio.run(runtime.acall("a cat")) == expected
    runtime.close()
    with pytest.raises(BertrtError, match="closed"):
        copy("a cat")


FORK = """
import asyncio, os, sys, threading, bertrt
rt = bertrt.load(sys.argv[1], threads=2)
batcher, closed = rt.batcher(), rt.batcher()
closed.close()
expected = batcher("the cat")
waiting = [batcher.submit("the cat") for _ in range(50)]
child = os.fork()
if child == 0:
    code = 1
    try:
        answers = [batcher("the cat", timeout=60), asyncio.run(rt.acall("the cat"))]
        answers += [asyncio.run(batcher.amany("call", ["the cat"])).answers]
        try:
            closed("the cat")
        except bertrt.BertrtError:
            code = 0 if answers == [expected] * 3 else 2
        batcher.close()
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert [future.result(60) for future in waiting] == [expected] * 50
"""

# The last requests still wait when the main thread ends.
EXIT = """
import sys, bertrt
rt = bertrt.load(sys.argv[1], threads=2)
batcher = rt.batcher()
batcher("the cat")
for i in range(200):
    batcher.submit("the cat " * (1 + i % 9)).add_done_callback(
        lambda future: print(len(future.result()), end="")
    )
"""

# The process ends with an error while other threads wait for their answers.
EXIT_BY_ERROR = """
import sys, threading, bertrt
rt = bertrt.load(sys.argv[1], threads=1)
batcher = rt.batcher()
batcher("the cat")  # Python 3.12 starts no thread after the main thread has ended
for i in range(20):
    threading.Thread(target=lambda: print(len(batcher("the cat")), end="")).start()
sys.exit("stop")
"""


@pytest.mark.parametrize(
    ("code", "result"),
    [(FORK, (0, "", "")), (EXIT, (0, "1" * 200, "")), (EXIT_BY_ERROR, (1, "1" * 20, "stop\n"))],
    ids=["fork", "exit", "error"],
)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_and_exits(
    make_artifact: Callable[..., Path], code: str, result: tuple[Any, ...]
) -> None:
    # In a graph without convolutions, a text's sums do not depend on its batch.
    artifact = make_artifact("BertForSequenceClassification", device="any")
    done = subprocess.run(
        [sys.executable, "-c", code, str(artifact)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == result


def test_closing_while_batchers_are_opened(make_artifact: Callable[..., Path]) -> None:
    """A thread may open and drop batchers while another closes the runtime."""
    runtime = bertrt.load(make_artifact("BertForSequenceClassification"), threads=1)
    stop = threading.Event()
    errors: list[BaseException] = []

    def open_batchers() -> None:
        while not stop.is_set():
            try:
                runtime.batcher()
            except bertrt.BertrtError:  # closed by now
                return
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=open_batchers) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        runtime.close()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert errors == []
