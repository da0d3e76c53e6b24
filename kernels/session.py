"""Arrays to arrays on a GPU: the Triton engine's session, with the interface of ONNX Runtime's."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertrt.errors import BertrtError, DeviceError, InputError
from bertrt.kernels.buckets import choose_bucket
from bertrt.kernels.dialect import OPERATORS
from bertrt.kernels.graph import Graph, read_graph
from bertrt.kernels.plan import Step, make_plan
from bertrt.kernels.program import Kernels, Program, to_tensor
from bertrt.kernels.standard import ON_HOST
from bertrt.kernels.strategies import Captured, Launched, Strategy
from bertrt.lazy import LazySession

__all__ = ["TritonSession"]


class TritonSession(LazySession):
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
            kernels: others than those of `bertrt.kernels.gpu`.
            strategy: makes another way to run than the one that this machine asks for: CUDA
                graphs on a GPU, and launches under Triton's interpreter.
        """
        self._graph = graph
        self._kernels = kernels
        self._strategy = strategy
        super().__init__(check)

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name, float32; `outputs` limits which.

        Raises DeviceError when there is no GPU, ArtifactError when the graph cannot be read or
        the check fails, InputError for an input that is missing or an output that is not there,
        and BertrtError when the run itself fails or the session is closed.
        """
        opened: _Opened = self._open()
        try:
            return opened.run(feeds, outputs)
        except BertrtError:
            raise
        except Exception as error:
            raise BertrtError(f"the Triton engine failed on this input: {error}") from error

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
        self._programs: dict[tuple[str, ...], Program] = {}
        self._turn = threading.Lock()

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None
    ) -> dict[str, np.ndarray]:
        names = list(outputs) if outputs else list(self.graph.outputs)
        program = self._program(names)
        plan = program.plan
        values = {**self._values, **feeds}
        for name in self.graph.inputs:
            if name not in values:
                raise InputError(f"{name} is missing: this graph takes it")
        _on_host(plan.entry, values)
        if plan.device:
            arrays = {name: values[name] for name in plan.uploads}
            with self._turn:
                values.update(self.strategy.run(program, choose_bucket(plan, arrays), arrays))
        _on_host(plan.exit, values)
        return {name: values[name] for name in names}

    def _program(self, names: Sequence[str]) -> Program:
        """The program for these outputs, in whichever order they are asked for."""
        key = tuple(sorted(set(names)))
        if key not in self._programs:
            # Two threads that come at once make the same one.
            plan = make_plan(self.graph, key)
            self._programs[key] = Program(plan, self._weights, self._kernels)
        return self._programs[key]


def _on_host(steps: Sequence[Step], values: dict[str, Any]) -> None:
    """Run ENTRY's or EXIT's steps by the dialect's references, in place."""
    for step in steps:
        node = step.node
        known = OPERATORS.get(node.operator)
        run = ON_HOST[node.operator] if known is None else known.reference
        given = [values[name] if name else None for name in node.inputs]
        made = run(*given, **node.attributes)
        values.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True))
        for name in step.dies:
            values.pop(name, None)


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
    from bertrt.kernels.gpu import KERNELS, splits  # compiles nothing yet, and needs triton

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
