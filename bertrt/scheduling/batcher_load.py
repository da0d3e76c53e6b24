"""How much waits in a dynamic batcher, and how fast it is."""

from dataclasses import dataclass

__all__ = ["BatcherLoad", "Speed"]

# The share of older batches that is kept with each new one: about the last twenty count.
_KEPT = 0.95


@dataclass(frozen=True)
class BatcherLoad:
    """What a dynamic batcher has to do, from `DynamicBatcher.load`.

    A text is an encoding here: each window, label or choice of an input counts.

    Attributes:
        waiting_texts: texts that were accepted and have not started.
        waiting_tokens: their tokens; those of texts that are still to be encoded are not known yet.
        running_texts: texts in batches that run now.
        tokens_per_second: how fast recent batches ran, all workers together; 0 before the first.
        alive: whether every thread that was started still lives. After `close` none does.
    """

    waiting_texts: int
    waiting_tokens: int
    running_texts: int
    tokens_per_second: float
    alive: bool


class Speed:
    """The tokens per second of workers that run side by side, from their recent batches."""

    def __init__(self, workers: int) -> None:
        """Measure `workers` threads, none of which has run a batch yet."""
        self._workers = workers
        self._tokens = 0.0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Count a batch that one worker ran."""
        self._tokens = _KEPT * self._tokens + tokens
        self._seconds = _KEPT * self._seconds + seconds

    @property
    def tokens_per_second(self) -> float:
        """What all workers do in a second; 0 before the first batch."""
        return self._workers * self._tokens / self._seconds if self._seconds else 0.0
