"""The Triton engine's session: runs arrays through a graph, like an ONNX Runtime session."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertrt.arrays.interop import device_of
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.engines.fork_safe import ForkSafe, check_cuda_after_fork
from bertrt.errors import BertrtError, DeviceError
from bertrt.kernels.engine.cuda_graphs import CudaGraphRunner
from bertrt.kernels.engine.device_inputs import TENSOR_INPUTS, DeviceInputs, complete_device_inputs
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.loaded_graph import LoadedGraph
from bertrt.kernels.engine.program import Kernels
from bertrt.kernels.engine.runner import EagerRunner, ProgramRunner
from bertrt.kernels.engine.transfer import start_download

__all__ = ["TritonSession"]

# DLPack's codes for kinds of devices.
_DLPACK = {"cpu": 1, "cuda": 2}


class TritonSession(ForkSafe):
    """A session that runs a graph of `bertrt` operators. Thread-safe.

    While the GPU runs a batch, another thread's batch is packed and queued behind it.

    The graph is loaded on the first run, onto the current CUDA device. A copy from a pickle and a
    forked child load it again on their first run. A child cannot run it if its parent had used the
    GPU before the fork, because CUDA does not survive a fork.
    """

    _settings = ("_graph", "_kernels", "_make_runner")

    def __init__(
        self,
        graph: Path,
        check: Callable[[], None] | None = None,
        *,
        kernels: Kernels | None = None,
        make_runner: Callable[[], ProgramRunner] | None = None,
    ) -> None:
        """Name the graph's file; it is read on the first run.

        Args:
            graph: the file.
            check: raises ArtifactError for files that must not be used. It is called while the
                graph is loaded, until it passes once; nothing runs before that.
            kernels: replace those of `bertrt.kernels.triton`.
            make_runner: replaces the default: CUDA graphs on a GPU, and eager launches in Triton's
                interpreter.
        """
        self._graph = graph
        self._kernels = kernels
        self._make_runner = make_runner
        super().__init__(check)

    def run(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name, float32.

        Args:
            inputs: numpy arrays by name, or the result of `complete_inputs`.
            outputs: the names of the outputs to compute; None for all.

        Raises DeviceError if there is no GPU, ArtifactError if the graph cannot be read or the
        check fails, InputError for a missing input or an unknown output, and BertrtError if the
        run fails or the session is closed.
        """
        loaded: LoadedGraph = self._open()
        with _wrap_errors:
            if isinstance(inputs, DeviceInputs):
                return start_download(loaded.run_on_device(inputs, outputs))()
            return loaded.run(inputs, outputs)

    def run_on_device(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """Run the graph like `run`, and return tensors on the device, owned by the caller.

        They are ready for work on the caller's current stream; this does not wait for them.
        """
        loaded: LoadedGraph = self._open()
        with _wrap_errors:
            return loaded.run_on_device(inputs, outputs)

    def complete_inputs(
        self, arrays: Mapping[str, Any], specs: tuple[TensorSpec, ...], config: ModelConfig
    ) -> DeviceInputs | None:
        """Check arrays of which some are on the device, and add the inputs that have a default.

        Returns None if none is on the device or the arrays are not valid; the caller then uses
        `bertrt.arrays.inputs.complete_inputs`.
        """
        if not any(self.is_on_device(arrays.get(name)) for name in TENSOR_INPUTS):
            return None
        loaded: LoadedGraph = self._open()
        with _wrap_errors:
            device, mask_id = loaded.runner.device, loaded.graph.mask_id
            return complete_device_inputs(arrays, specs, config, device, mask_id)

    def is_on_device(self, value: Any) -> bool:
        """Return whether this is an array on the session's device, but not a numpy array.

        In Triton's interpreter the device is the CPU.
        """
        device_id = device_of(value)
        if device_id is None:
            return False
        loaded: LoadedGraph = self._open()
        device = loaded.runner.device
        return device_id == (_DLPACK[device.type], device.index or 0)

    def info(self) -> dict[str, Any]:
        """Return the device's number and name, and whether CUDA graphs are used.

        Until the graph is loaded, the device is only "cuda".
        """
        loaded: LoadedGraph | None = self._inner
        if loaded is None:
            return {"device": "cuda"}
        return {"device": loaded.device_name, **loaded.runner.info()}

    def inputs_with_defaults(self) -> list[str]:
        """Return the names of the graph's inputs that a caller may omit."""
        loaded: LoadedGraph = self._open()
        return loaded.graph.optional_inputs

    def providers(self) -> list[str]:
        """Return the device that the session runs on: "cuda:0", or "cpu" for the interpreter."""
        return [str(self._open().runner.device)]

    def _make(self) -> LoadedGraph:
        runner = (self._make_runner or _default_runner)()
        kernels = self._kernels or _triton_kernels()
        return LoadedGraph(*read_graph(self._graph), kernels, runner)


class _WrapErrors:
    """Turns an unexpected error into a BertrtError of one sentence.

    A class, because a context manager made of a generator takes the host several microseconds.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, BertrtError):
            raise BertrtError(f"the Triton engine failed on this input: {error}") from error


_wrap_errors = _WrapErrors()


def _default_runner() -> ProgramRunner:
    """Return the runner for this machine; raise DeviceError if it has no GPU."""
    from triton import knobs

    if knobs.runtime.interpret:
        return EagerRunner(torch.device("cpu"))
    check_cuda_after_fork()
    if not torch.cuda.is_available():
        raise DeviceError(
            "the artifact is made for CUDA, and PyTorch finds no CUDA device here: run it where "
            "there is an NVIDIA GPU and a PyTorch for CUDA, or export with --device cpu"
        )
    return CudaGraphRunner(torch.device("cuda", torch.cuda.current_device()))


def _triton_kernels() -> Kernels:
    # This needs triton; it compiles nothing yet.
    from bertrt.kernels.triton import KERNELS, choose_splits, takes_residual

    return Kernels(KERNELS, choose_splits, takes_residual)
