"""Arrays to arrays on a GPU: the Triton engine's session, with the interface of ONNX Runtime's."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertrt.arrays.interop import place_of
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.engines.fork_safe import ForkSafe
from bertrt.errors import BertrtError, DeviceError, InputError
from bertrt.kernels.engine.boundary_ops import EXIT_ON_DEVICE, ON_HOST, entry_on_device, run_steps
from bertrt.kernels.engine.buckets import choose_bucket
from bertrt.kernels.engine.cuda_graphs import Captured, Launched, Strategy
from bertrt.kernels.engine.device_inputs import NAMES, DeviceFeeds, complete_device_feeds
from bertrt.kernels.engine.graph import Graph, read_graph
from bertrt.kernels.engine.plan import make_plan
from bertrt.kernels.engine.program import Kernels, Program, to_tensor
from bertrt.kernels.engine.transfer import fetch, owned, upload

__all__ = ["TritonSession"]

# DLPack's numbers for a device's kind.
_DLPACK = {"cpu": 1, "cuda": 2}


class TritonSession(ForkSafe):
    """A graph of the dialect that can be run from many threads, and survives fork and pickle.

    It is opened on the first run: the weights go to the current CUDA device. It is opened again on
    the first run of a copy from a pickle, and in a forked child, unless the parent had used the
    GPU by then: CUDA does not survive a fork.
    """

    _settings = ("_graph", "_kernels", "_strategy")

    def __init__(
        self,
        graph: Path,
        check: Callable[[], None] | None = None,
        *,
        kernels: Kernels | None = None,
        strategy: Callable[[], Strategy] | None = None,
    ) -> None:
        """Name the graph's file, and a check to make while it is being opened.

        Args:
            graph: the file.
            check: raises ArtifactError for files that may not be used; called at most until it
                passes once, and nothing is run before it has passed.
            kernels: others than those of `bertrt.kernels.triton`.
            strategy: makes another way to run than the one that this machine asks for: CUDA
                graphs on a GPU, and launches under Triton's interpreter.
        """
        self._graph = graph
        self._kernels = kernels
        self._strategy = strategy
        super().__init__(check)

    def run(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name, float32; `outputs` limits which.

        Args:
            feeds: numpy arrays by name, or what `complete` gives.
            outputs: names; None for all.

        Raises DeviceError when there is no GPU, ArtifactError when the graph cannot be read or
        the check fails, InputError for an input that is missing or an output that is not there,
        and BertrtError when the run itself fails or the session is closed.
        """
        opened: _Opened = self._open()
        with _failing_in_one_sentence():
            if isinstance(feeds, DeviceFeeds):
                return fetch(opened.run_there(feeds, outputs))
            return opened.run(feeds, outputs)

    def run_there(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """As `run`, with results that stay on the device, as tensors of the caller's own.

        They are ready for what the caller puts on its current stream; this does not wait for them.
        """
        opened: _Opened = self._open()
        with _failing_in_one_sentence():
            return opened.run_there(feeds, outputs)

    def complete(
        self, given: Mapping[str, Any], inputs: tuple[TensorSpec, ...], config: ModelConfig
    ) -> DeviceFeeds | None:
        """As `bertrt.arrays.inputs.complete_inputs`, for inputs of which some are on the device.

        Returns None where the host shall do it: none is on the device, or they are not what the
        graph takes.
        """
        if not any(self.holds(given.get(name)) for name in NAMES):
            return None
        opened: _Opened = self._open()
        with _failing_in_one_sentence():
            device, mask_id = opened.strategy.device, opened.graph.mask_id
            return complete_device_feeds(given, inputs, config, device, mask_id)

    def holds(self, value: Any) -> bool:
        """Whether this is an array of another library than numpy on the session's device.

        The device of Triton's interpreter is the CPU.
        """
        place = place_of(value)
        if place is None:
            return False
        opened: _Opened = self._open()
        device = opened.strategy.device
        return place == (_DLPACK[device.type], device.index or 0)

    def info(self) -> dict[str, Any]:
        """The device by its number and name; before it is in use, "cuda"."""
        opened: _Opened | None = self._inner
        return {"device": "cuda" if opened is None else opened.name}

    def inputs_with_defaults(self) -> list[str]:
        """The names of the graph's inputs that a caller may leave out."""
        opened: _Opened = self._open()
        return opened.graph.optional

    def providers(self) -> list[str]:
        """The device that the open session runs on: "cuda:0", or "cpu" for the interpreter."""
        return [str(self._open().strategy.device)]

    def _make(self) -> "_Opened":
        strategy = (self._strategy or _suitable)()
        kernels = self._kernels or _triton_kernels()
        return _Opened(*read_graph(self._graph), kernels, strategy)


class _Opened:
    """A graph with its weights on the device."""

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, np.ndarray],
        kernels: Kernels,
        strategy: Strategy,
    ) -> None:
        self.graph = graph
        self.strategy = strategy
        self._kernels = kernels
        weights = make_plan(graph, graph.outputs).weights
        self._weights = {name: to_tensor(values[name], strategy.device) for name in weights}
        # What the host needs itself; the rest is on the device now.
        self._values = {name: values[name] for name in values if name not in self._weights}
        self.name = "cpu, by Triton's interpreter"
        if strategy.device.type == "cuda":
            self.name = f"{strategy.device} {torch.cuda.get_device_name(strategy.device)}"
        self._programs: dict[tuple[str, ...], Program] = {}
        self._turn = threading.Lock()

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None
    ) -> dict[str, np.ndarray]:
        """From the host to the host: ENTRY and EXIT in numpy, side by side with other threads'."""
        names, program, values = self._begin(feeds, outputs)
        plan = program.plan
        run_steps(plan.entry, values, ON_HOST)
        if plan.device:
            arrays = {name: values[name] for name in plan.uploads}
            bucket = choose_bucket(plan, arrays)
            with self._turn:
                values.update(self.strategy.run(program, bucket, arrays, fetch, there=False))
        run_steps(plan.exit, values, ON_HOST)
        return {name: values[name] for name in names}

    def run_there(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None
    ) -> dict[str, torch.Tensor]:
        """To the device, from there or from the host; EXIT in torch, in this thread's turn."""
        names, program, values = self._begin(feeds, outputs)
        plan = program.plan
        if isinstance(feeds, DeviceFeeds):
            run_steps(plan.entry, values, entry_on_device(feeds.sizes))
            bucket = choose_bucket(plan, values, feeds.sizes.longest)
        else:
            run_steps(plan.entry, values, ON_HOST)
            bucket = choose_bucket(plan, values)
            packed = {name: values[name] for name in (*plan.uploads, *plan.carried)}
            values.update(upload(packed, self.strategy.device))

        def take(results: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            values.update(results)
            run_steps(plan.exit, values, EXIT_ON_DEVICE)
            return {name: owned(values[name], results.values()) for name in names}

        arrays = {name: values[name] for name in plan.uploads}
        with self._turn:
            return self.strategy.run(program, bucket, arrays, take, there=True)

    def _begin(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None
    ) -> tuple[list[str], Program, dict[str, Any]]:
        """The outputs' names, what runs for them, and the values that it begins with."""
        names = list(outputs) if outputs else list(self.graph.outputs)
        program = self._program(names)
        values = {**self._values, **feeds}
        for name in self.graph.inputs:
            if name not in values:
                raise InputError(f"{name} is missing: this graph takes it")
        return names, program, values

    def _program(self, names: Sequence[str]) -> Program:
        """The program for these outputs, in whichever order they are asked for."""
        key = tuple(sorted(set(names)))
        if key not in self._programs:
            # Two threads that come at once make the same one.
            plan = make_plan(self.graph, key)
            self._programs[key] = Program(plan, self._weights, self._kernels)
        return self._programs[key]


@contextmanager
def _failing_in_one_sentence() -> Iterator[None]:
    try:
        yield
    except BertrtError:
        raise
    except Exception as error:
        raise BertrtError(f"the Triton engine failed on this input: {error}") from error


def _suitable() -> Strategy:
    """The way to run on this machine."""
    from triton import knobs

    if knobs.runtime.interpret:
        return Launched(torch.device("cpu"))
    if _FORKED_WITH_CUDA:
        raise BertrtError(
            "CUDA was in use before this process was forked, and does not survive that: start "
            "processes by 'spawn', or fork before anything uses the GPU"
        )
    if not torch.cuda.is_available():
        raise DeviceError(
            "the artifact is made for CUDA, and PyTorch finds no CUDA device here: run it where "
            "there is an NVIDIA GPU and a PyTorch for CUDA, or export with --device cpu"
        )
    return Captured(torch.device("cuda", torch.cuda.current_device()))


def _triton_kernels() -> Kernels:
    from bertrt.kernels.triton import KERNELS, splits  # compiles nothing yet, and needs triton

    return Kernels(KERNELS, splits)


def _before_fork() -> None:
    global _CUDA_IN_USE
    _CUDA_IN_USE = torch.cuda.is_initialized()


def _after_fork() -> None:
    global _FORKED_WITH_CUDA
    _FORKED_WITH_CUDA = _FORKED_WITH_CUDA or _CUDA_IN_USE


_CUDA_IN_USE = False
_FORKED_WITH_CUDA = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
