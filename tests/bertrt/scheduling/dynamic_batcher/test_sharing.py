"""Many callers share a batcher: turns, deadlines, cancellation, room, and a dead worker."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bertrt import BatcherLoad, BertrtError, BusyError, DeadlineError
from bertrt.heads.text_generation import TextGeneration
from bertrt.scheduling import turns
from bertrt.tokenizer import Tokenizer


def test_single_texts_overtake_a_large_request(rt: Any, batches: Any) -> None:
    ended: list[str] = []
    with rt.batcher(max_batch_tokens=12) as batcher:
        batches.pause(batcher)
        large = batcher.submit_many("call", ["a cat"] * 60)
        large.add_done_callback(lambda _: ended.append("large"))
        for name, text in (("same", "it is"), ("longer", "the cat sat on the mat")):
            batcher.submit(text).add_done_callback(lambda _, name=name: ended.append(name))
        batches.resume()
        assert len(large.result(60).answers) == 60
    assert ended == ["same", "longer", "large"]
    # The one of the same length is in the first batch, and the other has the turn after it.
    assert batches.lengths[1:3] == [[4, 4, 4], [8]]


def test_a_large_asyncio_request_is_encoded_in_turns_with_others(
    rt: Any, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    ended: list[str] = []
    encode = Tokenizer.encode

    def encode_slowly(tokenizer: Any, *args: Any, **options: Any) -> Any:
        threads.add(threading.current_thread().name)
        time.sleep(0.002)  # more than a slice
        return encode(tokenizer, *args, **options)

    async def ask(batcher: Any) -> None:
        async def one(name: str, inputs: list[str]) -> None:
            await batcher.amany("call", inputs)
            ended.append(name)

        await asyncio.gather(one("large", ["a cat"] * 200), one("single", ["it is"]))

    monkeypatch.setattr(Tokenizer, "encode", encode_slowly)
    with rt.batcher() as batcher:
        asyncio.run(ask(batcher))
    assert ended == ["single", "large"]
    assert threads == {"bertrt-batcher"}  # never the event loop's


def test_cancelling_a_task_drops_what_has_not_started(rt: Any, batches: Any) -> None:
    async def ask(batcher: Any) -> None:
        task = asyncio.create_task(batcher.amany("call", ["a cat"] * 9))
        while batcher.load.waiting_tokens < 9 * 4:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert batcher.load.waiting_texts == 0

    with rt.batcher() as batcher:
        batches.pause(batcher)
        asyncio.run(ask(batcher))
        dropped = batcher.submit_many("call", ["it is"] * 9)
        assert dropped.cancel()
        batches.resume()
        assert batcher("it is")
    assert batches.lengths == [[4], [4]]


def test_a_deadline_comes_while_every_worker_is_busy(rt: Any, batches: Any) -> None:
    async def ask(batcher: Any) -> None:
        with pytest.raises(DeadlineError, match="deadline passed"):
            await batcher.amany("call", ["a cat"] * 9, deadline=time.monotonic() + 0.05)
        with pytest.raises(DeadlineError):
            await batcher.amany("call", ["a cat"], deadline=time.monotonic() - 1)

    with rt.batcher() as batcher:
        batches.pause(batcher)
        asyncio.run(ask(batcher))
        late = batcher.submit_many("call", ["it is"], deadline=time.monotonic() - 1)
        in_time = batcher.submit_many("call", ["it is"], deadline=time.monotonic() + 1000)
        batches.resume()
        with pytest.raises(DeadlineError):
            late.result(60)
        assert in_time.result(60).answers
        assert asyncio.run(
            batcher.amany("call", ["it is"], deadline=time.monotonic() + 1000)
        ).answers
    assert batches.lengths == [[4], [4], [4]]


def test_a_full_batcher_says_when_to_ask_again(rt: Any, batches: Any) -> None:
    with rt.batcher(max_waiting=4) as batcher:
        batcher("a cat")
        batches.pause(batcher)
        waiting = batcher.submit_many("call", ["a cat"] * 3)
        speed = batcher.load.tokens_per_second
        for ask in (
            lambda: batcher.submit_many("call", ["a cat"] * 2),
            lambda: asyncio.run(batcher.amany("call", ["a cat"] * 2)),
        ):
            with pytest.raises(BusyError, match="3 texts are waiting and the request has 2") as got:
                ask()
            assert got.value.retry_after == pytest.approx(min(max(12 / speed, 0.05), 60))
        one = batcher.submit("a cat")
        batches.resume()
        assert waiting.result(60)
        assert one.result(60)


def test_load_and_the_observer(rt: Any, batches: Any) -> None:
    observed: list[tuple[Any, ...]] = []
    with rt.batcher() as batcher:
        assert batcher.load == BatcherLoad(0, 0, 0, 0.0, alive=True)
        batcher.observe = lambda *what: observed.append(what)
        batches.pause(batcher)
        future = batcher.submit_many("call", ["a cat", "the cat sat", "it is"])
        assert batcher.load == BatcherLoad(3, 13, 1, 0.0, alive=True)
        batches.resume()
        future.result(60)
        load = batcher.load
        assert (load.waiting_texts, load.waiting_tokens, load.running_texts) == (0, 0, 0)
        assert load.tokens_per_second > 0
        assert batcher.observe is not None
    assert [what[:3] for what in observed] == [(1, 4, 4), (3, 13, 15)]
    assert all(what[3] > 0 for what in observed)
    assert batcher.load.alive is False


def test_an_observer_that_fails_is_logged(
    rt: Any, batches: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def observe(*_: Any) -> None:
        raise ValueError("no metrics")

    with rt.batcher() as batcher, caplog.at_level(logging.ERROR, "bertrt"):
        batcher.observe = observe
        assert batcher("a cat")
        assert batcher.load.alive
    assert "observer of a batcher raised" in caplog.text


def test_a_dead_worker_leaves_nobody_waiting(
    rt: Any, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*_: Any) -> Any:
        raise RuntimeError("broken")

    with rt.batcher() as batcher:
        running = batches.pause(batcher)
        monkeypatch.setattr(turns, "choose_batch", choose)
        waiting = [batcher.submit("a cat"), batcher.submit_many("call", ["a cat"] * 3)]
        batches.resume()
        for future in waiting:
            with pytest.raises(BertrtError, match=r"died of RuntimeError\('broken'\)"):
                future.result(60)
        assert running.result(60)  # it was complete
        assert not batcher.load.alive
        for call in (batcher, batcher.submit, lambda text: asyncio.run(batcher.acall(text))):
            with pytest.raises(BertrtError, match="died of RuntimeError"):
                call("a cat")
    assert rt.batcher()  # another one can be opened


def test_a_dead_encoder_leaves_nobody_waiting(
    rt: Any, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rt.batcher() as batcher:

        def fail(*_: Any) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(batcher._encoder, "_step", fail)
        with pytest.raises(BertrtError, match="died of RuntimeError"):
            asyncio.run(batcher.amany("call", ["a cat"]))
        assert not batcher.load.alive


def test_text_generation_does_not_hold_up_other_calls(
    load_artifact: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, resumed = TextGeneration.answer, threading.Event()

    def wait(head: Any, inputs: Any, runner: Any, options: Any) -> Any:
        assert resumed.wait(60)
        return answer(head, inputs, runner, options)

    rt = load_artifact("BertLMHeadModel")
    options = {"max_new_tokens": 2, "do_sample": False}
    expected = rt(["the cat", "a dog"], **options)
    monkeypatch.setattr(TextGeneration, "answer", wait)
    with rt.batcher() as batcher:
        texts = batcher.submit_many("call", ["the cat", "a dog"], **options)
        assert batcher("the cat", next_tokens=1, timeout=60)
        assert not texts.done()
        resumed.set()
        assert texts.result(60).answers == expected
