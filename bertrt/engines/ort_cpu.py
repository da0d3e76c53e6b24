"""Arrays to arrays: one ONNX Runtime session on one graph, built on first use in each process."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.engines.fork_safe import ForkSafe
from bertrt.engines.ort_options import OrtOptions, open_session, shrinking
from bertrt.errors import BertrtError

__all__ = ["OrtCpuSession"]

# A run of more tokens than this gives its working memory back to the system when it is done, and
# the next run that of its outputs; the session would keep what the largest run so far needed.
_LARGE_RUN = 8192


class OrtCpuSession(ForkSafe):
    """A graph that can be run from many threads, and survives fork and pickle.

    ONNX Runtime's own session does neither: its threads do not exist in a forked child. So it is
    made on the first run, again on the first run in a child, and never travels in a pickle.
    """

    _settings = ("_graph", "_options")

    def __init__(
        self, graph: Path, options: OrtOptions, check: Callable[[], None] | None = None
    ) -> None:
        """Name the graph's file, how to run it, and a check to make while it is being opened.

        Args:
            graph: the file.
            options: how to run it.
            check: raises ArtifactError for files that may not be used; called at most until it
                passes once, in a thread of its own, and nothing is run before it has passed.
        """
        self._graph = graph
        self._options = options
        super().__init__(check)

    def _reset(self) -> None:
        super()._reset()
        self._after_large = False

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which.

        Raises DeviceError when the provider is not to be had, ArtifactError when ONNX Runtime
        cannot read the graph or the check fails, and BertrtError when the run itself fails or the
        session is closed.
        """
        session = self._open()
        names = list(outputs) if outputs else [one.name for one in session.get_outputs()]
        large = max((feed.size for feed in feeds.values()), default=0) > _LARGE_RUN
        shrink, self._after_large = large or self._after_large, large
        try:
            values = session.run(names, dict(feeds), shrinking() if shrink else None)
        except Exception as error:
            raise BertrtError(f"ONNX Runtime failed on this input: {error}") from error
        return dict(zip(names, values, strict=True))

    def inputs_with_defaults(self) -> list[str]:
        """The names of the graph's inputs that a caller may leave out."""
        return [one.name for one in self._open().get_overridable_initializers()]

    def info(self) -> dict[str, Any]:
        """Nothing beyond what the runtime knows."""
        return {}

    def providers(self) -> list[str]:
        """The execution providers of the open session, in order."""
        return list(self._open().get_providers())

    def _make(self) -> Any:
        return open_session(self._graph, self._options)
