"""ONNX Runtime on the CPU: one session on one graph, opened on first use in each process."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.engines.fork_safe import ForkSafe
from bertrt.engines.ort_options import OrtOptions, open_session, shrinking_run_options
from bertrt.errors import BertrtError

__all__ = ["OrtCpuSession"]

# A run of more tokens than this returns its working memory to the system when it is done, and the
# next run that of its outputs. The session would otherwise keep what its largest run needed.
_LARGE_RUN = 8192


class OrtCpuSession(ForkSafe):
    """A session that is thread-safe and can be pickled and used after a fork.

    ONNX Runtime's own session can be neither: its threads do not exist in a forked child.
    """

    _settings = ("_graph", "_options")

    def __init__(
        self, graph: Path, options: OrtOptions, check: Callable[[], None] | None = None
    ) -> None:
        """Prepare to open a graph file on the first run.

        Args:
            graph: the file.
            options: how to run it.
            check: raises ArtifactError for files that must not be used; see `ForkSafe`.
        """
        self._graph = graph
        self._options = options
        super().__init__(check)

    def _reset(self) -> None:
        super()._reset()
        self._after_large = False

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which.

        Raises DeviceError if the provider is not available, ArtifactError if ONNX Runtime cannot
        read the graph or the check fails, and BertrtError if the run itself fails or the session is
        closed.
        """
        session = self._open()
        names = list(outputs) if outputs else [output.name for output in session.get_outputs()]
        large = max((array.size for array in inputs.values()), default=0) > _LARGE_RUN
        shrink, self._after_large = large or self._after_large, large
        try:
            values = session.run(names, dict(inputs), shrinking_run_options() if shrink else None)
        except Exception as error:
            raise BertrtError(f"ONNX Runtime failed on this input: {error}") from error
        return dict(zip(names, values, strict=True))

    def inputs_with_defaults(self) -> list[str]:
        """Return the names of the graph's optional inputs."""
        return [value.name for value in self._open().get_overridable_initializers()]

    def info(self) -> dict[str, Any]:
        """Return nothing: the runtime knows how this session runs."""
        return {}

    def providers(self) -> list[str]:
        """Return the execution providers of the open session, in order."""
        return list(self._open().get_providers())

    def _make(self) -> Any:
        return open_session(self._graph, self._options)
