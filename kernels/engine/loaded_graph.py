"""A graph with its weights on the device: the path of one run.

`plan` decides which nodes a run needs, without those that its flags make copies
(`identity_rows`). They run in three stages:

1. ENTRY packs the padded inputs (`boundary_ops`), in numpy on the host or in torch on the device.
2. DEVICE rounds the packed sizes up to a bucket (`buckets`), copies the integers into an upload
   buffer (`upload_buffer`), and launches the kernels (`program`) or replays their CUDA graph
   (`cuda_graphs`).
3. EXIT restores the padded shape (`boundary_ops`).
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bertrt.errors import InputError
from bertrt.kernels.engine.boundary_ops import (
    DEVICE_EXIT_OPERATORS,
    HOST_OPERATORS,
    device_entry_operators,
    run_steps,
)
from bertrt.kernels.engine.buckets import choose_bucket
from bertrt.kernels.engine.device_inputs import DeviceInputs
from bertrt.kernels.engine.graph import Graph
from bertrt.kernels.engine.identity_rows import drop_identity_rows, row_flags
from bertrt.kernels.engine.padded_columns import pad_columns
from bertrt.kernels.engine.plan import make_plan
from bertrt.kernels.engine.program import Kernels, Program
from bertrt.kernels.engine.runner import ProgramRunner
from bertrt.kernels.engine.transfer import (
    copy_if_shared,
    start_download,
    to_tensor,
    upload,
)

__all__ = ["LoadedGraph"]


class LoadedGraph:
    """A graph with its weights on the device. Thread-safe: runs are queued one at a time."""

    def __init__(
        self,
        graph: Graph,
        initializers: Mapping[str, np.ndarray],
        kernels: Kernels,
        runner: ProgramRunner,
    ) -> None:
        """Copy the weights to the runner's device."""
        self.graph = graph
        self.runner = runner
        self.device_name = "cpu (Triton interpreter)"
        if runner.device.type == "cuda":
            self.device_name = f"{runner.device} {torch.cuda.get_device_name(runner.device)}"
        self._kernels = kernels
        weights = make_plan(graph, graph.outputs).weights
        padded, self._columns = pad_columns(graph, initializers)
        self._weights = {name: to_tensor(padded[name], runner.device) for name in weights}
        # The small constants that ENTRY and EXIT read.
        self._host_initializers = {
            name: array for name, array in initializers.items() if name not in self._weights
        }
        self._row_flags = row_flags(graph)
        self._programs: dict[tuple[tuple[str, ...], tuple[str, ...]], Program] = {}
        self._device_lock = threading.Lock()

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None
    ) -> dict[str, np.ndarray]:
        """Run numpy arrays and return numpy arrays.

        ENTRY and EXIT run on the host, in parallel with other threads, and so does the wait for the
        device: another thread can queue its run behind this one.
        """
        names = self._output_names(outputs)
        values = self._initial_values(inputs)
        program = self._program(names, values)
        plan = program.plan
        run_steps(plan.entry, values, HOST_OPERATORS)
        if plan.device:
            uploads = {name: values[name] for name in plan.uploads}
            bucket = choose_bucket(plan, uploads)
            with self._device_lock:
                wait = self.runner.run(program, bucket, uploads, start_download, on_device=False)
            values.update(wait())
        run_steps(plan.exit, values, HOST_OPERATORS)
        return {name: values[name] for name in names}

    def run_on_device(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None
    ) -> dict[str, torch.Tensor]:
        """Run `DeviceInputs` or numpy arrays and return tensors on the device."""
        names = self._output_names(outputs)
        values = self._initial_values(inputs)
        program = self._program(names, values)
        plan = program.plan
        if isinstance(inputs, DeviceInputs):
            run_steps(plan.entry, values, device_entry_operators(inputs.sizes))
            bucket = choose_bucket(plan, values, inputs.sizes.max_length)
        else:
            run_steps(plan.entry, values, HOST_OPERATORS)
            bucket = choose_bucket(plan, values)
            packed = {name: values[name] for name in (*plan.uploads, *plan.entry_results)}
            values.update(upload(packed, self.runner.device))

        def run_exit(results: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            values.update(results)
            run_steps(plan.exit, values, DEVICE_EXIT_OPERATORS)
            # The next run may overwrite the results.
            return {name: copy_if_shared(values[name], results.values()) for name in names}

        uploads = {name: values[name] for name in plan.uploads}
        with self._device_lock:
            return self.runner.run(program, bucket, uploads, run_exit, on_device=True)

    def _output_names(self, outputs: Sequence[str] | None) -> list[str]:
        return list(outputs) if outputs else list(self.graph.outputs)

    def _program(self, outputs: Sequence[str], values: Mapping[str, Any]) -> Program:
        """Return the program for these outputs and for the values of the flags."""
        false_flags = tuple([name for name in self._row_flags if not values[name]])
        key = (tuple(outputs), false_flags)
        if key not in self._programs:
            # Two threads may both get here; they make equal programs. Those for the same outputs in
            # another order have the same CUDA graphs.
            plan = make_plan(drop_identity_rows(self.graph, false_flags), sorted(set(outputs)))
            self._programs[key] = Program(plan, self._weights, self._kernels, self._columns)
        return self._programs[key]

    def _initial_values(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs with their defaults; raise InputError if one is missing."""
        values = {**self._host_initializers, **inputs}
        for name in self.graph.inputs:
            if name not in values:
                raise InputError(f"{name} is missing: this graph takes it")
        return values
