"""The order in which requests run: they take turns, and parts of similar length share a batch."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from bertrt.scheduling.queued_request import QueuedRequest, RequestPart

__all__ = ["Turns", "choose_batch"]

T = TypeVar("T")

# A batch is chosen among this many parts. More would hardly match better.
_LOOK_AHEAD = 256
# About what a run costs beside its tokens, in tokens: 25 where arithmetic is fast, 5 where it is
# slow. A value too small by half costs nothing; one too large costs padding.
_PADDING = 8


def choose_batch(lengths: Sequence[int], budget: int) -> list[int]:
    """Choose the rows of the next run: the first, and those of similar length.

    In the order of their lengths, a row joins those before it if the batch stays within the
    budget and the padding that it adds costs no more than a run of its own. When few rows wait,
    their lengths differ much: merging them all would take longer than one run for each.

    Args:
        lengths: each waiting row's length in tokens, in the order of their turns; at least one.
        budget: the most padded tokens (rows x longest row) of a batch; a longer row is a batch
            of its own.

    Returns indices into `lengths`. 0 is always among them, so no row waits forever.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        if batch:
            padding = len(batch) * (length - lengths[batch[-1]])
            if padding > _PADDING or (len(batch) + 1) * length > budget:
                if 0 in batch:
                    break
                batch = []
        batch.append(index)
    return batch


class Turns:
    """Requests that wait, and the next batch of their parts. Not thread-safe.

    Each batch has a part of the request whose turn it is, which then goes to the end of the line.
    So one that has thousands of parts delays another by one batch for each of its turns. What
    else is in a batch is chosen among the parts of all requests alike.
    """

    def __init__(self, max_batch_tokens: int) -> None:
        """Give out batches of at most so many padded tokens."""
        self._max_batch_tokens = max_batch_tokens
        self._line: OrderedDict[QueuedRequest, None] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether any part waits."""
        return bool(self._line)

    def __iter__(self) -> Iterator[QueuedRequest]:
        """Iterate over the requests with parts that wait."""
        return iter(self._line)

    def add(self, request: QueuedRequest) -> None:
        """Append a request that has at least one part."""
        self._line[request] = None

    def remove(self, request: QueuedRequest) -> bool:
        """Remove a request and its parts; return whether it was here."""
        return self._line.pop(request, self) is None

    def take(self) -> list[RequestPart]:
        """Remove and return the parts of the next batch, all of which need the same outputs.

        A part without an encoding comes alone. There must be a request.
        """
        leader = next(iter(self._line))
        batch = self._next_batch(leader)
        self._line.move_to_end(leader)
        for part in batch:
            del part.request.waiting[part]
            if not part.request.waiting:
                del self._line[part.request]
        return batch

    def _next_batch(self, leader: QueuedRequest) -> list[RequestPart]:
        first = next(iter(leader.waiting))
        if first.encoding is None:
            return [first]
        in_turn = _round_robin(
            request.waiting
            for request in islice(self._line, _LOOK_AHEAD)
            if _same_outputs(request, leader)
        )
        parts = list(islice((part for part in in_turn if part.encoding is not None), _LOOK_AHEAD))
        chosen = choose_batch([part.length for part in parts], self._max_batch_tokens)
        return [parts[index] for index in chosen]


def _same_outputs(request: QueuedRequest, other: QueuedRequest) -> bool:
    return request.outputs == other.outputs and request.output_tokens == other.output_tokens


def _round_robin(columns: Iterable[Iterable[T]]) -> Iterator[T]:
    """Yield the first item of each column, then the second of each, and so on."""
    left = deque(map(iter, columns))
    while left:
        column = left.popleft()
        for item in column:
            yield item
            left.append(column)
            break
