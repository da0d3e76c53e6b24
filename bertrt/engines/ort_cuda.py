"""ONNX Runtime on a GPU, with CUDA graphs where it can capture them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.engines.cuda_provider import CUDA, graphs_refused
from bertrt.engines.fork_safe import ForkSafe, check_cuda_after_fork, mark_cuda_in_use
from bertrt.engines.gpu_thread import on_gpu_thread
from bertrt.engines.io_binding import CaptureError, IoBindings
from bertrt.engines.ort_options import OrtOptions, open_session
from bertrt.errors import ArtifactError, BertrtError

__all__ = ["OrtCudaSession"]


class OrtCudaSession(ForkSafe):
    """A thread-safe session whose runs take turns on the GPU.

    It can be pickled. A forked child opens it again, unless the parent had used the GPU before the
    fork: CUDA does not survive a fork.
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
        """Prepare to open a graph file on the first run.

        Args:
            graph: the file. All its inputs are int64 with the shape of `input_ids`.
            options: how to run it; with `cuda_graphs`, as CUDA graphs where that is possible.
            check: raises ArtifactError for files that must not be used; see `ForkSafe`.
            longest: the longest sequence that the model has positions for.
        """
        self._graph = graph
        self._options = options
        self._longest = longest
        super().__init__(check)

    def _reset(self) -> None:
        super()._reset()
        self._no_graphs = "" if self._options.cuda_graphs else "they were not requested"

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which.

        Raises DeviceError if the GPU cannot be used, ArtifactError if ONNX Runtime cannot read the
        graph or the check fails, InputError for a missing input, and BertrtError if the run itself
        fails or the session is closed.
        """
        return on_gpu_thread(self._run, inputs, outputs)

    def close(self) -> None:
        """Free the session; a later run is an error."""
        on_gpu_thread(super().close)

    def info(self) -> dict[str, Any]:
        """Return whether CUDA graphs are used: True, "no: …" with the reason, or not known yet."""
        if self._no_graphs:
            return {"cuda_graphs": f"no: {self._no_graphs}"}
        return {"cuda_graphs": True if self._inner is not None else "not known before a run"}

    def providers(self) -> list[str]:
        """Return the execution providers of the open session, in order."""
        return list(on_gpu_thread(self._open).session.get_providers())

    def _run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> Any:
        try:
            return self._open().run(inputs, outputs)
        except CaptureError as error:
            self._no_graphs = f"ONNX Runtime could not capture one ({_one_line(error)})"
        except BertrtError:
            raise
        except Exception as error:
            raise BertrtError(f"ONNX Runtime failed on this input: {error}") from error
        # A failed capture leaves its stream unusable, and a session has only one.
        with self._lock:
            self._inner = None
        return self._run(inputs, outputs)

    def _make(self) -> IoBindings:
        cuda = self._options.provider == CUDA
        if cuda:
            check_cuda_after_fork()
        graphs = not self._no_graphs
        try:
            session = open_session(self._graph, replace(self._options, cuda_graphs=graphs))
        except ArtifactError as error:
            refusal = graphs_refused(error)
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
