"""Arrays to arrays by ONNX Runtime on a GPU, with its CUDA graphs where it can capture them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.engines.cuda_provider import CUDA, refused_graphs
from bertrt.engines.fork_safe import ForkSafe, check_cuda_after_fork, mark_cuda_in_use
from bertrt.engines.gpu_thread import on_gpu_thread
from bertrt.engines.io_binding import CaptureError, IoBindings
from bertrt.engines.ort_options import OrtOptions, open_session
from bertrt.errors import ArtifactError, BertrtError

__all__ = ["OrtCudaSession"]


class OrtCudaSession(ForkSafe):
    """A graph that can be run from many threads; the runs take turns on the GPU.

    It is opened on the first run, and on the first run of a copy from a pickle. A forked child
    opens it again unless the parent had used the GPU by then: CUDA does not survive a fork.
    """

    _settings = ("_graph", "_options", "_longest")

    def __init__(
        self,
        graph: Path,
        options: OrtOptions,
        check: Callable[[], None] | None = None,
        *,
        longest: int,
    ) -> None:
        """Name the graph's file, how to run it, and a check to make while it is being opened.

        Args:
            graph: the file. Its inputs are `input_ids` and what has its shape, as int64; it has
                no other, and no size but theirs.
            options: how to run it; with `cuda_graphs`, as CUDA graphs where that is possible.
            check: raises ArtifactError for files that may not be used; called at most until it
                passes once, and nothing is run before it has passed.
            longest: the longest sequence that the model has positions for.
        """
        self._graph = graph
        self._options = options
        self._longest = longest
        super().__init__(check)

    def _reset(self) -> None:
        super()._reset()
        self._no_graphs = "" if self._options.cuda_graphs else "they were not asked for"

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which.

        Raises DeviceError when the GPU is not to be had, ArtifactError when ONNX Runtime cannot
        read the graph or the check fails, InputError for an input that is missing, and BertrtError
        when the run itself fails or the session is closed.
        """
        return on_gpu_thread(self._run, feeds, outputs)

    def close(self) -> None:
        """Free the session's memory; a later run is an error."""
        on_gpu_thread(super().close)

    def info(self) -> dict[str, Any]:
        """Whether CUDA graphs are used: True, "no" with the reason, or that nothing ran yet."""
        if self._no_graphs:
            return {"cuda_graphs": f"no: {self._no_graphs}"}
        return {"cuda_graphs": True if self._inner is not None else "not known before a run"}

    def providers(self) -> list[str]:
        """The execution providers of the open session, in order."""
        return list(on_gpu_thread(self._open).session.get_providers())

    def _run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> Any:
        try:
            return self._open().run(feeds, outputs)
        except CaptureError as error:
            self._no_graphs = f"ONNX Runtime could not capture one ({_one_line(error)})"
        except BertrtError:
            raise
        except Exception as error:
            raise BertrtError(f"ONNX Runtime failed on this input: {error}") from error
        # A capture that failed leaves its stream unusable, and a session has but one.
        with self._lock:
            self._inner = None
        return self._run(feeds, outputs)

    def _make(self) -> IoBindings:
        cuda = self._options.provider == CUDA
        if cuda:
            check_cuda_after_fork()
        graphs = not self._no_graphs
        try:
            session = open_session(self._graph, replace(self._options, cuda_graphs=graphs))
        except ArtifactError as error:
            refusal = refused_graphs(error)
            if not graphs or refusal is None:
                raise
            self._no_graphs = refusal
            return self._make()
        if cuda:
            mark_cuda_in_use()
        made = IoBindings(session, "cuda" if cuda else "cpu", graphs=graphs, longest=self._longest)
        if graphs and made.unknown is not None:
            self._no_graphs = f"the size of {made.unknown} is not known before a run"
        return made


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
