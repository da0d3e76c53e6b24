"""A request that waits, is cancelled or fails does not affect the others."""

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


def test_a_full_batcher_refuses_or_waits(rt: Any, batches: Any) -> None:
    with rt.batcher(max_waiting=2) as batcher:
        batches.pause(batcher)
        waiting = [batcher.submit("a cat") for _ in range(2)]
        for call in (batcher, batcher.submit, lambda text: asyncio.run(batcher.acall(text))):
            with pytest.raises(BusyError, match=r"2 texts are waiting.*holds 2.*wait=True"):
                call("it is")
        with ThreadPoolExecutor(3) as pool:
            callers = [
                pool.submit(batcher, "it is", wait=True),
                pool.submit(lambda: asyncio.run(batcher.acall("it is", wait=True))),
                pool.submit(lambda: batcher.submit("it is", wait=True)),
            ]
            time.sleep(0.05)
            assert not any(future.done() for future in callers)  # submit waits too
            batches.resume()
            answers = [future.result(60) for future in callers]
        assert answers[0] == answers[1] == answers[2].result(60)
        assert all(future.result(60) for future in waiting)


def test_a_request_that_times_out_is_dropped(rt: Any, batches: Any) -> None:
    with rt.batcher() as batcher:
        batches.pause(batcher)
        with pytest.raises(BusyError, match=r"no answer within 0\.01 seconds"):
            batcher(TEXTS[1], timeout=0.01)
        batches.resume()
        assert batcher("a cat", timeout=60)
    assert [4] in batches.lengths
    assert len(batches.lengths) == 2  # the request that timed out never ran


def test_cancelling_drops_a_request_that_has_not_started(rt: Any, batches: Any) -> None:
    async def cancel_one_of_two(batcher: Any) -> None:
        task = asyncio.create_task(batcher.acall(TEXTS[3]))
        other = asyncio.create_task(batcher.acall("a cat"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        batches.resume()
        assert await other

    with rt.batcher() as batcher:
        started = batches.pause(batcher)
        future = batcher.submit(TEXTS[1])
        assert future.cancel()
        assert not started.cancel()
        asyncio.run(cancel_one_of_two(batcher))
        assert started.result(60)
        with pytest.raises(CancelledError):
            future.result(60)
    assert batches.lengths == [[4], [4]]


def test_an_event_loop_may_end_before_the_answer(rt: Any, batches: Any) -> None:
    async def leave(batcher: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await batcher.acall("it is")

    with rt.batcher() as batcher:
        batches.pause(batcher)
        started = threading.Thread(target=lambda: asyncio.run(leave(batcher)))
        started.start()
        started.join(60)
        batches.resume()
        assert batcher("a cat")


def test_wrong_inputs_and_options_are_refused(rt: Any, batches: Any) -> None:
    with rt.batcher() as batcher:
        for call in (
            batcher,
            batcher.submit,
            lambda *a, **k: asyncio.run(batcher.acall(*a, **k)),
        ):
            for inputs, options, message in [
                (("a cat",), {"topk": 1}, "did you mean top_k"),
                (("a cat",), {"wait": 1}, "wait is 1"),
                (("a cat",), {"progress": True}, "no option 'progress'"),
                ((3,), {}, "give a string"),
                ((["a cat", "it is"],), {}, "one input at a time.*list of 2"),
                ((" ".join(TEXTS * 9),), {}, "the limit is 64"),
            ]:
                with pytest.raises(InputError, match=message):
                    call(*inputs, **options)
        with pytest.raises(InputError, match="embed needs an artifact for feature-extraction"):
            batcher.embed("a cat")
    assert batches.lengths == []
    for options, message in [
        ({"max_waiting": 0}, "max_waiting is 0"),
        ({"max_waiting_tokens": 0}, "max_waiting_tokens is 0"),
        ({"max_batch_tokens": "256"}, "max_batch_tokens is '256'"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": 2}, "workers is 2, but threads are 1: give at most 1"),
    ]:
        with pytest.raises(InputError, match=message):
            rt.batcher(**options)


def test_wrong_options_of_embed_are_refused(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    with rt.batcher() as batcher:
        with pytest.raises(InputError, match="did you mean pooling"):
            batcher.embed("a cat", poolin="cls")
        with pytest.raises(InputError, match="dimensions is 33"):
            batcher.embed("a cat", dimensions=33)
        with pytest.raises(InputError, match="list of 2"):
            batcher.submit_embed(["a cat", "it is"])


class Panic(BaseException):
    """A panic of the tokenizers library is not an Exception either."""


@pytest.mark.parametrize("error", [ValueError("broken"), Panic("broken")])
def test_an_error_of_one_answer_reaches_only_its_caller(
    rt: Any, batches: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    finish = type(rt._calls.head).finish

    def finish_or_fail(head: Any, prepared: Any, samples: Any, options: Any) -> Any:
        if options.top_k == 2:
            raise error
        return finish(head, prepared, samples, options)

    monkeypatch.setattr(type(rt._calls.head), "finish", finish_or_fail)
    with rt.batcher() as batcher:
        batches.pause(batcher)
        futures = [batcher.submit("a cat", top_k=k) for k in (1, 2, 3)]
        batches.resume()
        assert len(futures[0].result(60)) == 1
        with pytest.raises(type(error), match="broken"):
            futures[1].result(60)
        assert len(futures[2].result(60)) == 3
    assert batches.lengths == [[4], [4, 4, 4]]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (bertrt.DeviceError("no provider: install one"), bertrt.DeviceError, "no provider"),
        (MemoryError("none left"), BertrtError, r"part of failed: MemoryError\('none left'\)"),
    ],
)
def test_an_error_of_a_batch_reaches_exactly_its_requests(
    rt: Any, batches: Any, error: BaseException, kind: type, message: str
) -> None:
    with rt.batcher() as batcher:
        # The first batch succeeds, the second fails, and the third succeeds.
        batches.pause(batcher).add_done_callback(lambda _: batches.errors.append(error))
        failing = [batcher.submit("a cat") for _ in range(3)]
        after = batcher.submit(TEXTS[3])
        batches.resume()
        errors = [future.exception(60) for future in failing]
        assert after.result(60)
    assert len({id(copy) for copy in errors}) == 3  # each is raised in another thread
    for copy in errors:
        assert type(copy) is kind
        assert copy.__cause__ is error
