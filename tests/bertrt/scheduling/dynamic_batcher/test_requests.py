"""A request waits, gives up or fails for itself: nobody else is harmed."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

import bertrt
from bertrt import BertrtError, BusyError, InputError

TEXTS = [
    "the cat sat on the mat",
    "plants create oxygen and sugar from light through a process",
    "a good film",
    "the dog and the cat and the cat and the dog sat on the mat by the river in paris",
]


def test_full(rt: Any, gate: Any) -> None:
    with rt.batcher(max_waiting=2) as stream:
        gate.shut(stream)
        waiting = [stream.submit("a cat") for _ in range(2)]
        for ask in (stream, stream.submit, lambda text: asyncio.run(stream.acall(text))):
            with pytest.raises(BusyError, match=r"2 requests are waiting.*wait=True"):
                ask("it is")
        with ThreadPoolExecutor(3) as pool:
            patient = [
                pool.submit(stream, "it is", wait=True),
                pool.submit(lambda: asyncio.run(stream.acall("it is", wait=True))),
                pool.submit(lambda: stream.submit("it is", wait=True)),
            ]
            time.sleep(0.05)
            assert not any(one.done() for one in patient)  # submit waits too
            gate.open.set()
            answers = [one.result(60) for one in patient]
        assert answers[0] == answers[1] == answers[2].result(60)
        assert all(future.result(60) for future in waiting)


def test_timeout(rt: Any, gate: Any) -> None:
    with rt.batcher() as stream:
        gate.shut(stream)
        with pytest.raises(BusyError, match=r"no answer within 0\.01 seconds"):
            stream(TEXTS[1], timeout=0.01)
        gate.open.set()
        assert stream("a cat", timeout=60)
    assert [4] in gate.batches
    assert len(gate.batches) == 2  # what timed out was never run


def test_cancelling_drops_what_has_not_started(rt: Any, gate: Any) -> None:
    async def give_up(stream: Any) -> None:
        task = asyncio.create_task(stream.acall(TEXTS[3]))
        other = asyncio.create_task(stream.acall("a cat"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open.set()
        assert await other

    with rt.batcher() as stream:
        started = gate.shut(stream)
        future = stream.submit(TEXTS[1])
        assert future.cancel()
        assert not started.cancel()
        asyncio.run(give_up(stream))
        assert started.result(60)
        with pytest.raises(CancelledError):
            future.result(60)
    assert gate.batches == [[4], [4]]


def test_a_caller_whose_loop_is_gone_harms_nobody(rt: Any, gate: Any) -> None:
    async def leave(stream: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stream.acall("it is")

    with rt.batcher() as stream:
        gate.shut(stream)
        started = threading.Thread(target=lambda: asyncio.run(leave(stream)))
        started.start()
        started.join(60)
        gate.open.set()
        assert stream("a cat")


def test_bad_input_is_the_callers(rt: Any, gate: Any) -> None:
    with rt.batcher() as stream:
        for ask in (stream, stream.submit, lambda *a, **k: asyncio.run(stream.acall(*a, **k))):
            for inputs, options, message in [
                (("a cat",), {"topk": 1}, "did you mean top_k"),
                (("a cat",), {"wait": 1}, "wait is 1"),
                (("a cat",), {"progress": True}, "no option 'progress'"),
                ((3,), {}, "give a string"),
                ((["a cat", "it is"],), {}, "one input at a time.*list of 2"),
                ((" ".join(TEXTS * 9),), {}, "the limit is 64"),
            ]:
                with pytest.raises(InputError, match=message):
                    ask(*inputs, **options)
        with pytest.raises(InputError, match="embed needs an artifact for feature-extraction"):
            stream.embed("a cat")
    assert gate.batches == []
    for options, message in [
        ({"max_waiting": 0}, "max_waiting is 0"),
        ({"max_batch_tokens": "256"}, "max_batch_tokens is '256'"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": 2}, "workers is 2, and this runtime has 1 threads"),
    ]:
        with pytest.raises(InputError, match=message):
            rt.batcher(**options)


def test_bad_options_of_vectors(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    with rt.batcher() as stream:
        with pytest.raises(InputError, match="did you mean pooling"):
            stream.embed("a cat", poolin="cls")
        with pytest.raises(InputError, match="dimensions is 33"):
            stream.embed("a cat", dimensions=33)
        with pytest.raises(InputError, match="list of 2"):
            stream.submit_embed(["a cat", "it is"])


class Panic(BaseException):
    """What the tokenizers library raises when it fails inside is no Exception either."""


@pytest.mark.parametrize("error", [ValueError("broken"), Panic("broken")])
def test_an_error_of_one_answer_reaches_its_caller_only(
    rt: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    finish = type(rt._calls.head).finish

    def broken(head: Any, prepared: Any, rows: Any, options: Any) -> Any:
        if options.top_k == 2:
            raise error
        return finish(head, prepared, rows, options)

    monkeypatch.setattr(type(rt._calls.head), "finish", broken)
    with rt.batcher() as stream:
        gate.shut(stream)
        futures = [stream.submit("a cat", top_k=k) for k in (1, 2, 3)]
        gate.open.set()
        assert len(futures[0].result(60)) == 1
        with pytest.raises(type(error), match="broken"):
            futures[1].result(60)
        assert len(futures[2].result(60)) == 3
    assert gate.batches == [[4], [4, 4, 4]]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (bertrt.DeviceError("no provider: install one"), bertrt.DeviceError, "no provider"),
        (MemoryError("out of it"), BertrtError, r"part of failed: MemoryError\('out of it'\)"),
    ],
)
def test_a_failing_batch_reaches_exactly_its_requests(
    rt: Any, gate: Any, error: BaseException, kind: type, message: str
) -> None:
    with rt.batcher() as stream:
        # The first batch is answered; then comes the one that fails, and then the next.
        gate.shut(stream).add_done_callback(lambda _: gate.errors.append(error))
        failing = [stream.submit("a cat") for _ in range(3)]
        after = stream.submit(TEXTS[3])
        gate.open.set()
        errors = [future.exception(60) for future in failing]
        assert after.result(60)
    assert len({id(one) for one in errors}) == 3  # each is raised in a thread of its own
    for one in errors:
        assert type(one) is kind
        assert one.__cause__ is error
