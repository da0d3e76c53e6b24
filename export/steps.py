"""The steps of an export, announced as they begin, with what goes on inside the long ones."""

from collections.abc import Callable, Sequence

__all__ = ["Progress", "Steps"]

# Called with a step's number from 1, how many there are, and its name.
Progress = Callable[[int, int, str], None]


class Steps:
    """Announces one step after the other, each time it is called."""

    def __init__(self, names: Sequence[str], progress: Progress | None) -> None:
        """Name the steps, and who is told."""
        self._names = names
        self._progress = progress
        self._number = 0

    def __call__(self) -> None:
        """The next step begins."""
        self._number += 1
        self._tell(self._names[self._number - 1])

    def detail(self, words: str) -> None:
        """The step at hand does something that is worth saying."""
        self._tell(f"{self._names[self._number - 1]}: {words}")

    def _tell(self, words: str) -> None:
        if self._progress is not None:
            self._progress(self._number, len(self._names), words)
