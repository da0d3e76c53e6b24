"""Runs of an ONNX Runtime session on a device's own buffers, which its CUDA graphs read and write.

A CUDA graph is replayed on the addresses and the sizes that it was captured with. So each shape
that is captured has inputs and outputs of its own, and a run copies into them and out of them.
ONNX Runtime captures a graph when a thread's run first names its id, after the runs that it needs
to find its memory, and never frees one before the session: their number and their memory are
bounded.
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

# Above this many tokens the GPU is busy for longer than the host takes to launch kernels.
_MOST_TOKENS = 4096
_MOST_GRAPHS = 128
_MOST_BYTES = 1 << 30

# Lengths are rounded up to multiples of it: fewer graphs, and in float16 the least for which ONNX
# Runtime's memory-efficient attention takes a bias (contrib_ops/cuda/bert/multihead_attention.cc).
_STEP = 8

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}

Arrays = Mapping[str, np.ndarray]
Shape = list[int | str]


class CaptureError(BertrtError):
    """The first run of a shape failed with a CUDA graph; the session may be of no use now."""


@dataclass(frozen=True)
class _Captured:
    """A shape's buffers on the device, and the run options that name its graph."""

    binding: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    options: Any


class IoBindings:
    """An open session and the buffers of the shapes that have CUDA graphs.

    Threads must take turns; each has graphs of its own.
    """

    def __init__(self, session: Any, device: str, *, graphs: bool, longest: int) -> None:
        """Take an open session.

        Args:
            session: an `onnxruntime.InferenceSession`.
            device: ONNX Runtime's name of the device that it runs on, "cuda" or "cpu".
            graphs: whether to capture CUDA graphs; a CPU session ignores the graphs' ids.
            longest: the longest sequence that the model has positions for.
        """
        self.session = session
        self._device = device
        self._longest = longest
        self._inputs: dict[str, Shape] = {one.name: one.shape for one in session.get_inputs()}
        self._outputs: dict[str, Shape] = {one.name: one.shape for one in session.get_outputs()}
        every = (*session.get_inputs(), *session.get_outputs())
        self._dtypes = {one.name: _DTYPES[one.type] for one in every}
        self._captured: dict[tuple[int, ...], _Captured] = {}
        self._held = 0
        names = {size for shape in self._inputs.values() for size in shape}
        # An output that has a size of its own: it is known after a run only.
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

    def run(self, feeds: Arrays, outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Run on arrays of the host; the outputs on the host by name, the caller's own memory.

        Raises InputError for an input that is missing, CaptureError when the first run of a shape
        fails with a graph, and what ONNX Runtime raises otherwise.
        """
        names = list(outputs) if outputs else list(self._outputs)
        sizes = self._sizes(feeds)
        length = sizes["sequence"]
        if self.unknown is None:
            # Columns of padding change no answer, and are cut off again.
            sizes["sequence"] = max(length, min(-(-length // _STEP) * _STEP, self._longest))
        shapes = {name: _shape(shape, sizes) for name, shape in self._inputs.items()}
        wide = {
            name: _widened(feeds[name], shape, self._dtypes[name]) for name, shape in shapes.items()
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
        """How many graphs there are."""
        return len(self._captured)

    def _sizes(self, feeds: Arrays) -> dict[str, int]:
        """Each symbolic size of the inputs, as it is in these."""
        sizes: dict[str, int] = {}
        for name, shape in self._inputs.items():
            if name not in feeds:
                raise InputError(f"{name} is missing: this graph takes it")
            given = feeds[name].shape
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

    def _capture(self, sizes: Mapping[str, int], feeds: Arrays) -> _Captured:
        """Give a shape its buffers, and run it for the first time.

        The graph computes all outputs, so that whoever asks for whichever replays the same.
        """
        binding = self.session.io_binding()
        inputs = {name: self._buffer(name, shape, sizes) for name, shape in self._inputs.items()}
        outputs = {name: self._buffer(name, shape, sizes) for name, shape in self._outputs.items()}
        for name, buffer in inputs.items():
            binding.bind_ortvalue_input(name, buffer)
        for name, buffer in outputs.items():
            binding.bind_ortvalue_output(name, buffer)
        # 0 is the id of runs that name none.
        options = _run_options(len(self._captured) + 1)
        captured = _Captured(binding, inputs, outputs, options)
        try:
            self._rerun(captured, feeds)
        except Exception as error:
            raise CaptureError(str(error)) from error
        self._held += self._bytes(sizes)
        return captured

    def _buffer(self, name: str, shape: Shape, sizes: Mapping[str, int]) -> Any:
        make = onnxruntime().OrtValue.ortvalue_from_shape_and_type
        return make(_shape(shape, sizes), self._dtypes[name], self._device, 0)

    def _rerun(self, captured: _Captured, feeds: Arrays) -> None:
        for name, buffer in captured.inputs.items():
            buffer.update_inplace(feeds[name])
        self._run(captured.binding, captured.options)

    def _run_plain(self, feeds: Arrays, names: Sequence[str]) -> list[Any]:
        """Run without a graph, on memory that ONNX Runtime finds."""
        binding = self.session.io_binding()
        make = onnxruntime().OrtValue.ortvalue_from_numpy
        values = {name: make(array, self._device, 0) for name, array in feeds.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, self._device, 0)
        self._run(binding, self._plain_options)
        return list(binding.get_outputs())

    def _run(self, binding: Any, options: Any) -> None:
        # The copies of buffers are made on another stream than the runs.
        binding.synchronize_inputs()
        self.session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()

    def _to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value.numpy()
        # Of memory on the host this is a view, which the next run would change.
        return array.copy() if self._device == "cpu" else array

    def _cut(self, name: str, length: int) -> tuple[slice, ...]:
        return tuple(
            slice(length) if size == "sequence" else slice(None) for size in self._outputs[name]
        )


def _shape(shape: Shape, sizes: Mapping[str, int]) -> list[int]:
    return [size if isinstance(size, int) else sizes[size] for size in shape]


def _widened(array: np.ndarray, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array with zeros behind its rows: ids, masks and types of padding."""
    if array.shape == tuple(shape):
        return np.ascontiguousarray(array, dtype=dtype)
    wide = np.zeros(shape, dtype)
    wide[tuple(slice(size) for size in array.shape)] = array
    return wide


def _run_options(graph: int) -> Any:
    """Run options that name a graph by its id; with -1 a run has none."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options
