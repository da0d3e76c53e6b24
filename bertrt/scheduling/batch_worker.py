"""A thread of the dynamic batcher that runs one lane's batches and answers their requests."""

import logging
import time
from collections.abc import Sequence

from bertrt.errors import BertrtError
from bertrt.scheduling.queued_request import RequestPart
from bertrt.scheduling.request_queue import RequestQueue

__all__ = ["work"]


def work(queue: RequestQueue, lane: int) -> None:
    """Run batch after batch until the queue is closed and empty.

    An error of a batch reaches its requests. Any other is a fault of the batcher's own: everything
    that waits then fails, so that no caller waits for a thread that is dead.
    """
    batch: Sequence[RequestPart] = ()
    try:
        while batch := queue.take(lane):
            _run(batch, queue)
            # A worker that waits keeps nothing alive.
            batch = ()
    except BaseException as error:
        queue.break_down(error, batch)


def _run(batch: Sequence[RequestPart], queue: RequestQueue) -> None:
    """Run a batch, and finish the requests that are complete then."""
    if batch[0].encoding is None:
        _run_itself(batch[0], queue)
        return
    first = batch[0].request
    start = time.perf_counter()
    try:
        samples = first.run_batch(
            [part.encoding for part in batch], outputs=first.outputs, tokens=first.output_tokens
        )
        outputs_of = list(zip(batch, samples, strict=True))
    except BaseException as error:
        queue.end_batch(batch, None)
        for request in dict.fromkeys(part.request for part in batch):
            queue.fail(request, _copy_of(error))
        return
    _report(batch, queue, time.perf_counter() - start)
    for part, outputs in outputs_of:
        if (complete := queue.store(part, outputs)) is None:
            continue
        try:
            answer = part.request.answer(part.input, complete)
        except BaseException as error:  # a panic of the tokenizer is not an Exception
            queue.fail(part.request, error)
            continue
        if queue.store_answer(part, answer):
            part.request.finish()


def _run_itself(part: RequestPart, queue: RequestQueue) -> None:
    """Answer an input that runs the graph itself."""
    start = time.perf_counter()
    try:
        answer = part.request.answer(part.input, ())
    except BaseException as error:
        queue.end_batch([part], None)
        queue.fail(part.request, error)
        return
    _report([part], queue, time.perf_counter() - start)
    if queue.store_answer(part, answer):
        part.request.finish()


def _report(batch: Sequence[RequestPart], queue: RequestQueue, seconds: float) -> None:
    """Count a batch, and tell the observer, before the answers are there."""
    queue.end_batch(batch, seconds)
    if (observe := queue.observe) is None:
        return
    lengths = [part.length for part in batch]
    try:
        observe(len(batch), sum(lengths), len(batch) * max(lengths), seconds)
    except Exception:
        # Requests are not to fail because nobody could count them.
        logging.getLogger("bertrt").exception("the observer of a batcher raised an error")


def _copy_of(error: BaseException) -> BertrtError:
    """Return a batch's error for one of its requests: many threads must not raise one object."""
    if isinstance(error, BertrtError):
        copy = type(error)(*error.args)
    else:
        copy = BertrtError(f"the run that this request was part of failed: {error!r}; ask again")
    copy.__cause__ = error
    return copy
