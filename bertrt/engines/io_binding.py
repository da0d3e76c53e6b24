"""Run an ONNX Runtime session on buffers of the device, and replay CUDA graphs on them.

A CUDA graph is replayed on the addresses and sizes that it was captured with. So each captured
shape has input and output buffers of its own, and a run copies into them and out of them. ONNX
Runtime captures a graph when a thread's run first names its id, after the runs that it needs to
allocate memory, and frees none before the session: their number and memory are bounded here.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from bertrt.engines.ort import onnxruntime
from bertrt.errors import BertrtError, InputError

__all__ = ["CaptureError", "IoBindings"]

# Above this many tokens the GPU takes longer than the host needs to launch kernels.
_MOST_TOKENS = 4096
_MOST_GRAPHS = 128
_MOST_BYTES = 1 << 30

# Lengths are rounded up to a multiple of this: fewer graphs, and in float16 the smallest for which
# ONNX Runtime's memory-efficient attention takes a bias
# (contrib_ops/cuda/bert/multihead_attention.cc).
_STEP = 8

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}

Arrays = Mapping[str, np.ndarray]
Shape = list[int | str]


class CaptureError(BertrtError):
    """A shape's first run failed with a CUDA graph; the session may be unusable now."""


@dataclass(frozen=True)
class _Captured:
    """A shape's buffers on the device, and the run options with the id of its graph."""

    binding: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    options: Any


class IoBindings:
    """An open session and the buffers of the shapes that have CUDA graphs.

    Not thread-safe: threads must take turns, and each has graphs of its own.
    """

    def __init__(self, session: Any, device: str, *, graphs: bool, longest: int) -> None:
        """Take an open session.

        Args:
            session: an `onnxruntime.InferenceSession`.
            device: ONNX Runtime's name of the device that it runs on, "cuda" or "cpu".
            graphs: capture CUDA graphs; a CPU session ignores their ids.
            longest: the longest sequence that the model has positions for.
        """
        self.session = session
        self._device = device
        self._longest = longest
        self._inputs: dict[str, Shape] = {value.name: value.shape for value in session.get_inputs()}
        self._outputs: dict[str, Shape] = {
            value.name: value.shape for value in session.get_outputs()
        }
        values = (*session.get_inputs(), *session.get_outputs())
        self._dtypes = {value.name: _DTYPES[value.type] for value in values}
        self._captured: dict[tuple[int, ...], _Captured] = {}
        self._held = 0
        names = {size for shape in self._inputs.values() for size in shape}
        # An output with a size that no input has, so it is known only after a run.
        self.unknown = next(
            (
                name
                for name, shape in self._outputs.items()
                if not all(isinstance(size, int) or size in names for size in shape)
            ),
            None,
        )
        self.graphs = graphs and self.unknown is None
        self._plain_options = _run_options(-1)

    def run(self, inputs: Arrays, outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Run on host arrays and return the outputs as new host arrays by name.

        Raises InputError for a missing input, CaptureError if a shape's first run with a graph
        fails, and otherwise what ONNX Runtime raises.
        """
        names = list(outputs) if outputs else list(self._outputs)
        sizes = self._sizes(inputs)
        length = sizes["sequence"]
        if self.unknown is None:
            # Padding columns do not change the answer and are cut off again.
            sizes["sequence"] = max(length, min(-(-length // _STEP) * _STEP, self._longest))
        shapes = {name: _shape(shape, sizes) for name, shape in self._inputs.items()}
        wide = {
            name: _widened(inputs[name], shape, self._dtypes[name])
            for name, shape in shapes.items()
        }
        key = (threading.get_ident(), *sizes.values())
        captured = self._captured.get(key)
        if captured is None and self._worth_a_graph(sizes):
            captured = self._capture(sizes, wide)
            self._captured[key] = captured
        elif captured is not None:
            self._rerun(captured, wide)
        if captured is not None:
            values = [captured.outputs[name] for name in names]
        else:
            values = self._run_plain(wide, names)
        return {
            name: self._to_host(value)[self._cut(name, length)]
            for name, value in zip(names, values, strict=True)
        }

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self._captured)

    def _sizes(self, inputs: Arrays) -> dict[str, int]:
        """Return the value of each symbolic size of the inputs."""
        sizes: dict[str, int] = {}
        for name, shape in self._inputs.items():
            if name not in inputs:
                raise InputError(f"{name} is missing: this graph takes it")
            given = inputs[name].shape
            fits = len(given) == len(shape) and all(
                sizes.setdefault(str(size), number) == number
                for size, number in zip(shape, given, strict=True)
            )
            if not fits:
                raise InputError(
                    f"{name} has shape {list(given)}, which is not [{', '.join(map(str, shape))}] "
                    "of the inputs before it"
                )
        return sizes

    def _bytes(self, sizes: Mapping[str, int]) -> int:
        every = {**self._inputs, **self._outputs}
        return sum(
            prod(_shape(shape, sizes)) * np.dtype(self._dtypes[name]).itemsize
            for name, shape in every.items()
        )

    def _worth_a_graph(self, sizes: Mapping[str, int]) -> bool:
        return (
            self.graphs
            and prod(sizes.values()) <= _MOST_TOKENS
            and len(self._captured) < _MOST_GRAPHS
            and self._held + self._bytes(sizes) <= _MOST_BYTES
        )

    def _capture(self, sizes: Mapping[str, int], inputs: Arrays) -> _Captured:
        """Allocate a shape's buffers and run it for the first time.

        The graph computes all outputs, so one graph serves every choice of outputs.
        """
        binding = self.session.io_binding()
        input_buffers = {
            name: self._buffer(name, shape, sizes) for name, shape in self._inputs.items()
        }
        output_buffers = {
            name: self._buffer(name, shape, sizes) for name, shape in self._outputs.items()
        }
        for name, buffer in input_buffers.items():
            binding.bind_ortvalue_input(name, buffer)
        for name, buffer in output_buffers.items():
            binding.bind_ortvalue_output(name, buffer)
        # 0 is the id of runs that name no graph.
        options = _run_options(len(self._captured) + 1)
        captured = _Captured(binding, input_buffers, output_buffers, options)
        try:
            self._rerun(captured, inputs)
        except Exception as error:
            raise CaptureError(str(error)) from error
        self._held += self._bytes(sizes)
        return captured

    def _buffer(self, name: str, shape: Shape, sizes: Mapping[str, int]) -> Any:
        make = onnxruntime().OrtValue.ortvalue_from_shape_and_type
        return make(_shape(shape, sizes), self._dtypes[name], self._device, 0)

    def _rerun(self, captured: _Captured, inputs: Arrays) -> None:
        for name, buffer in captured.inputs.items():
            buffer.update_inplace(inputs[name])
        self._run(captured.binding, captured.options)

    def _run_plain(self, inputs: Arrays, names: Sequence[str]) -> list[Any]:
        """Run without a graph, on memory that ONNX Runtime allocates."""
        binding = self.session.io_binding()
        make = onnxruntime().OrtValue.ortvalue_from_numpy
        values = {name: make(array, self._device, 0) for name, array in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, self._device, 0)
        self._run(binding, self._plain_options)
        return list(binding.get_outputs())

    def _run(self, binding: Any, options: Any) -> None:
        # Copies of buffers use another stream than runs.
        binding.synchronize_inputs()
        self.session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()

    def _to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value.numpy()
        # On the host this is a view, which the next run would overwrite.
        return array.copy() if self._device == "cpu" else array

    def _cut(self, name: str, length: int) -> tuple[slice, ...]:
        return tuple(
            slice(length) if size == "sequence" else slice(None) for size in self._outputs[name]
        )


def _shape(shape: Shape, sizes: Mapping[str, int]) -> list[int]:
    return [size if isinstance(size, int) else sizes[size] for size in shape]


def _widened(array: np.ndarray, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Return an array padded with zeros at the end of its rows."""
    if array.shape == tuple(shape):
        return np.ascontiguousarray(array, dtype=dtype)
    wide = np.zeros(shape, dtype)
    wide[tuple(slice(size) for size in array.shape)] = array
    return wide


def _run_options(graph: int) -> Any:
    """Return run options with the id of a CUDA graph; -1 for no graph."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options
