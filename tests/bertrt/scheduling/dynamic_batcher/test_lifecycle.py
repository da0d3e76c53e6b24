"""A stream's life: closed, dropped, pickled, forked or left open at exit, it loses nothing."""

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


def test_close_answers_what_was_accepted(rt: Any, gate: Any) -> None:
    stream = rt.batcher()
    gate.shut(stream)
    futures = [stream.submit(text) for text in TEXTS]
    closing = threading.Thread(target=stream.close)
    closing.start()
    time.sleep(0.02)
    with pytest.raises(BertrtError, match="this batcher is closed: open another"):
        stream("a cat")
    assert closing.is_alive()
    gate.open.set()
    closing.join(60)
    assert all(future.done() and future.result() for future in futures)
    stream.close()
    assert rt.batcher()("a cat")


def test_close_that_cancels(rt: Any, gate: Any) -> None:
    stream = rt.batcher()
    started = gate.shut(stream)
    futures = [stream.submit(text) for text in TEXTS]
    closing = threading.Thread(target=stream.close, kwargs={"cancel": True})
    closing.start()
    gate.open.set()
    closing.join(60)
    assert started.result(0)
    assert all(future.cancelled() or future.result(0) for future in futures)
    assert len(gate.batches) <= 2


def test_a_callback_may_close(rt: Any, gate: Any) -> None:
    stream = rt.batcher()
    first = gate.shut(stream)
    first.add_done_callback(lambda _: stream.close())
    second = stream.submit("it is")
    gate.open.set()
    assert second.result(60)
    with pytest.raises(BertrtError, match="closed"):
        stream("a cat")


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_the_runtime_closes_its_streams(
    make_artifact: Callable[..., Path], threads: int
) -> None:
    rt = bertrt.load(make_artifact("BertForSequenceClassification"), threads=threads)
    other = bertrt.load(make_artifact("BertForSequenceClassification"), threads=threads)
    stream, others = rt.batcher(), other.batcher()
    asyncio.run(rt.acall("a cat"))
    futures = [stream.submit(text) for text in TEXTS]
    rt.close()
    assert all(future.done() and future.result() for future in futures)
    for ask in (stream, lambda text: asyncio.run(rt.acall(text)), lambda _: rt.batcher()):
        with pytest.raises(BertrtError, match="closed"):
            ask("a cat")
    assert others("a cat")
    other.close()


def test_two_workers_open_no_session_but_their_own(make_artifact: Callable[..., Path]) -> None:
    with bertrt.load(make_artifact("BertModel"), threads=2, max_batch_tokens=77) as rt:
        with rt.batcher() as stream:
            stream.warmup([(1, 4)])
            assert stream("a cat")
            assert rt._pool.wide.session._inner is None
            assert stream._runner._session.threads.count == 1
            assert stream._runner.max_batch_tokens == 77
        assert rt.info["threads"] == 2
        with rt.batcher(workers=1) as stream:
            assert stream("a cat")
            assert rt._pool.wide.session._inner is not None


def test_an_idle_stream_keeps_nothing_alive(make_artifact: Callable[..., Path]) -> None:
    rt = bertrt.load(make_artifact("BertForSequenceClassification"), threads=1)
    stream = rt.batcher()
    stream("a cat")
    (worker,) = stream._threads
    held = weakref.ref(rt), weakref.ref(stream)
    future = stream.submit("it is")  # accepted, and answered though nobody holds the stream
    del rt, stream
    assert future.result(60)
    del future
    worker.join(60)
    assert not worker.is_alive()
    gc.collect()
    assert [one() for one in held] == [None, None]


def test_pickle(rt: Any) -> None:
    expected = rt("a cat")
    asyncio.run(rt.acall("a cat"))
    with rt.batcher(max_waiting=3) as stream:
        stream("a cat")
        copy, runtime = pickle.loads(pickle.dumps((stream, rt)))
    assert copy("a cat") == expected
    assert copy._max_waiting == 3
    assert copy._runner is runtime._runner
    assert asyncio.run(runtime.acall("a cat")) == expected
    runtime.close()
    with pytest.raises(BertrtError, match="closed"):
        copy("a cat")


FORK = """
import asyncio, os, sys, threading, bertrt
rt = bertrt.load(sys.argv[1], threads=2)
stream, closed = rt.batcher(), rt.batcher()
closed.close()
expected = stream("the cat")
waiting = [stream.submit("the cat") for _ in range(50)]
child = os.fork()
if child == 0:
    code = 1
    try:
        answers = [stream("the cat", timeout=60), asyncio.run(rt.acall("the cat"))]
        try:
            closed("the cat")
        except bertrt.BertrtError:
            code = 0 if answers == [expected, expected] else 2
        stream.close()
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert [one.result(60) for one in waiting] == [expected] * 50
"""

# The last requests are still waiting when the main thread is at its end.
EXIT = """
import sys, bertrt
rt = bertrt.load(sys.argv[1], threads=2)
stream = rt.batcher()
stream("the cat")
for i in range(200):
    stream.submit("the cat " * (1 + i % 9)).add_done_callback(
        lambda one: print(len(one.result()), end="")
    )
"""

# As the last, but with an error, and threads that wait for their answers.
EXIT_BY_ERROR = """
import sys, threading, bertrt
rt = bertrt.load(sys.argv[1], threads=1)
stream = rt.batcher()
for i in range(20):
    threading.Thread(target=lambda: print(len(stream("the cat")), end="")).start()
sys.exit("stop")
"""


@pytest.mark.parametrize(
    ("code", "ends"),
    [(FORK, (0, "", "")), (EXIT, (0, "1" * 200, "")), (EXIT_BY_ERROR, (1, "1" * 20, "stop\n"))],
    ids=["fork", "exit", "error"],
)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_processes(make_artifact: Callable[..., Path], code: str, ends: tuple[Any, ...]) -> None:
    # With a graph of products, a text's sums are the same alone and in a batch.
    artifact = make_artifact("BertForSequenceClassification", device="any")
    done = subprocess.run(
        [sys.executable, "-c", code, str(artifact)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == ends
