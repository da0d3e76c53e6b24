"""A request: what one input needs from the graph, and how its outputs become the answer.

Requests know neither sessions nor files. A `GraphRunner` runs them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bertrt.tokens import Tokens

__all__ = ["Answer", "GraphRunner", "HeadRequest", "SampleOutputs"]

# The outputs of one encoding by name, without batch axis and padding: logits [V], [S, V], …
SampleOutputs = Mapping[str, np.ndarray]
# Plain Python, JSON-ready; each head documents its own.
Answer = Any


class GraphRunner(Protocol):
    """Runs the graph on encodings or arrays."""

    def run_encodings(
        self,
        encodings: Sequence[Tokens],
        *,
        outputs: Sequence[str] | None = None,
        tokens: str = "all",
    ) -> Iterator[tuple[int, SampleOutputs]]:
        """Run encodings in batches of similar length; yield each index with its outputs.

        Args:
            encodings: the encoded texts.
            outputs: the names of the outputs to yield; the head's own when None.
            tokens: the tokens to return, for outputs that have a token axis: "all" gives [S, …],
                "first" [1, …], and "masks" [M, …] for the M mask tokens of a text.

        Outputs come in the order in which batches finish, so that a caller need not hold all of
        them at once: logits over a vocabulary are large.
        """

    def run(self, *, outputs: Sequence[str] | None = None, **arrays: Any) -> dict[str, np.ndarray]:
        """Run the graph once on arrays [B, S]; `outputs` limits which outputs it returns."""


@dataclass(frozen=True)
class HeadRequest:
    """One input, ready to run.

    Attributes:
        encodings: what to run.
        finish: makes the answer from the outputs of the encodings, in their order.
        outputs, tokens: as in `GraphRunner.run_encodings`.
        windows: the encodings are the windows of one text, which together leave nothing out.
        runs_itself: `finish` runs the graph, as often as it needs; it gets no outputs.
    """

    encodings: Sequence[Tokens]
    finish: Callable[[Sequence[SampleOutputs]], Answer]
    outputs: tuple[str, ...] | None = None
    tokens: str = "all"
    windows: bool = False
    runs_itself: bool = False

    @property
    def truncated(self) -> bool:
        """Whether a part of the input was cut off."""
        return not self.windows and any(encoding.overflowing for encoding in self.encodings)
