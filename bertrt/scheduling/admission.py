"""Admission to a queue that is bounded in texts and in tokens: a request fits, or it does not."""

from bertrt.errors import BusyError, TooLargeError

__all__ = ["Admission"]

# Bounds and the value without a measured speed of `BusyError.retry_after`, in seconds.
_LEAST, _MOST, _UNKNOWN = 0.05, 60.0, 1.0


class Admission:
    """Counts what waits, and refuses what does not fit. Not thread-safe."""

    def __init__(self, max_texts: int, max_tokens: int) -> None:
        """Admit at most so many texts and tokens at a time."""
        self.max_texts = max_texts
        self.max_tokens = max_tokens
        self.texts = 0
        self.tokens = 0

    @property
    def is_full(self) -> bool:
        """Whether more waits than fits; only what enters without a check makes it so."""
        return self.texts > self.max_texts or self.tokens > self.max_tokens

    def check(self, texts: int, tokens: int, tokens_per_second: float) -> None:
        """Check that so much fits beside what waits.

        Raises BusyError for what does not fit now, and TooLargeError for what never will.
        """
        for unit, more, waiting, limit, option in (
            ("texts", texts, self.texts, self.max_texts, "max_waiting"),
            ("tokens", tokens, self.tokens, self.max_tokens, "max_waiting_tokens"),
        ):
            if more > limit:
                raise TooLargeError(
                    f"the request has {more} {unit}, and this batcher holds {limit}: ask for less "
                    f"at a time, or open it with a larger {option}",
                    size=more,
                    unit=unit,
                    limit=limit,
                )
            if waiting + more > limit:
                raise BusyError(
                    f"{waiting} {unit} are waiting and the request has {more}, but this batcher "
                    f"holds {limit}: ask again later, pass wait=True, or open it with a larger "
                    f"{option}",
                    retry_after=self._retry_after(tokens_per_second),
                )

    def enter(self, texts: int, tokens: int) -> None:
        """Count what waits from now on."""
        self.texts += texts
        self.tokens += tokens

    def leave(self, texts: int, tokens: int) -> None:
        """Count what has started, or was dropped."""
        self.texts -= texts
        self.tokens -= tokens

    def _retry_after(self, tokens_per_second: float) -> float:
        """Return in how many seconds what waits now will have started."""
        if not tokens_per_second:
            return _UNKNOWN
        return min(max(self.tokens / tokens_per_second, _LEAST), _MOST)
