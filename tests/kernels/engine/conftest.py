"""A tiny graph with every operator, fake kernels that run the references, and a fake GPU."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bertrt.kernels.engine.program import Kernels
from bertrt.kernels.ops.operator import DOMAIN, VERSION, Stage
from bertrt.kernels.ops.registry import OPERATORS, REFERENCES

HIDDEN, WORDS, MASK = 16, 23, 4


def _weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    return {
        "word": draw(WORDS, HIDDEN),
        "type": draw(2, HIDDEN),
        "position": draw(20, HIDDEN),
        "gamma": draw(HIDDEN),
        "beta": draw(HIDDEN),
        "w_qkv": draw(HIDDEN, 3 * HIDDEN) * 0.2,
        "w_out": draw(HIDDEN, HIDDEN),
        "b_out": draw(HIDDEN),
        "w_pool": draw(HIDDEN, HIDDEN),
        "w_span": draw(HIDDEN, 2),
        "masked_only": np.array(False),
        "axes": np.array([-1]),
    }


def _nodes() -> list[onnx.NodeProto]:
    def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
        input_names = ["" if name == "-" else name for name in inputs.split()]
        return helper.make_node(op_type, input_names, outputs.split(), domain=DOMAIN, **attributes)

    return [
        node("Pack", "input_ids token_type_ids attention_mask", "ids types positions rows offsets"),
        node("EmbedLayerNorm", "ids types positions word type position gamma beta", "embedded"),
        node("Linear", "embedded w_qkv", "qkv"),
        node("PackedAttention", "qkv offsets", "context", num_heads=2),
        node("Linear", "context w_out", "summed"),
        node("AddLayerNorm", "summed gamma beta b_out embedded", "x", epsilon=1e-5),
        node("FirstRows", "offsets rows", "first"),
        node("SelectRows", "x first", "cls"),
        node("Linear", "cls w_pool -", "pooled", activation="tanh"),
        node("PoolRows", "x offsets", "mean", poolings="mean"),
        node("UnitRows", "mean", "unit"),
        node("MaskedRows", "ids masked_only", "picked", mask_id=MASK),
        node("SelectRows", "x picked", "chosen"),
        node("Linear", "chosen word", "scores", transposed=1),
        node("Unpack", "scores input_ids rows masked_only", "logits"),
        node("Linear", "x w_span", "span"),
        node("Unpack", "span input_ids rows", "spans"),
        helper.make_node(
            "Split", ["spans"], ["start_column", "end_column"], axis=-1, num_outputs=2
        ),
        helper.make_node("Squeeze", ["start_column", "axes"], ["start"]),
        helper.make_node("Squeeze", ["end_column", "axes"], ["end"]),
    ]


def _model() -> onnx.ModelProto:
    def integers(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])

    graph = helper.make_graph(
        _nodes(),
        "tiny",
        [
            *map(integers, ("input_ids", "attention_mask", "token_type_ids")),
            helper.make_tensor_value_info("masked_only", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in ("logits", "pooled", "unit", "start", "end")
        ],
        [numpy_helper.from_array(value, name) for name, value in _weights().items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture
def tiny() -> onnx.ModelProto:
    """A graph with the outputs logits, pooled, unit, start and end; tests may change it."""
    return _model()


@pytest.fixture
def tiny_path(tiny: onnx.ModelProto, tmp_path: Path) -> Path:
    """The file of the tiny graph."""
    path = tmp_path / "model.onnx"
    onnx.save(tiny, path)
    return path


@pytest.fixture
def make_inputs() -> Callable[..., dict[str, np.ndarray]]:
    """Make padded inputs from sequence lengths, with mask tokens and without the flag.

    `hole` masks a token in the middle of each sequence of at least three tokens.
    """

    def make(lengths: Sequence[int], *, hole: bool = False) -> dict[str, np.ndarray]:
        random = np.random.default_rng(sum(lengths))
        shape = (len(lengths), max(lengths) + 1)
        mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
        if hole:
            mask[np.array(lengths) >= 3, 1] = 0
        ids = random.integers(0, WORDS, shape)
        ids[:, 0] = MASK
        types = random.integers(0, 2, shape)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

    return make


@pytest.fixture
def expected() -> Callable[..., dict[str, np.ndarray]]:
    """Run the tiny graph with onnx.reference."""

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        evaluator = ReferenceEvaluator(_model(), new_ops=REFERENCES)
        return dict(zip(evaluator.output_names, evaluator.run(None, inputs), strict=True))

    return run


class FakeKernels:
    """The references as kernels. They record what is launched, and count overwritten residuals.

    Like a real kernel, attention does not write the rows from offsets[-1] on: here they are NaN,
    and so is everything computed from them.
    """

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.rows: list[int] = []
        self.overwritten = 0
        names = [name for name, op in OPERATORS.items() if op.stage is Stage.DEVICE]
        self.kernels = Kernels({name: self._kernel(name) for name in names})

    def _kernel(self, name: str) -> Callable[..., torch.Tensor]:
        def run(
            *inputs: Any,
            max_length: int | None = None,
            block_maps: dict[Any, torch.Tensor] | None = None,
            residual: torch.Tensor | None = None,
            **attributes: Any,
        ) -> torch.Tensor:
            arrays = [None if tensor is None else tensor.numpy() for tensor in inputs]
            result = OPERATORS[name].reference(*arrays, **attributes)
            if name == "PackedAttention":
                offsets = arrays[1]
                assert max_length is not None
                assert block_maps is not None
                assert np.diff(offsets).max() <= max_length
                result[offsets[-1] :] = np.nan
            self.launched.append(name)
            self.rows.append(len(result))
            if residual is not None:
                self.overwritten += 1
                return residual.add_(torch.from_numpy(result))
            return torch.from_numpy(result)

        return run


@pytest.fixture
def fake_kernels() -> FakeKernels:
    """Kernels that run the references; see `FakeKernels`."""
    return FakeKernels()


class FakeStream:
    """A stream that logs what it waits for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self._log = name, log

    def wait_stream(self, other: "FakeStream") -> None:
        self._log.append(f"{self.name} waits for {other.name}")


class FakeGraph:
    """A CUDA graph that captures nothing. Captures and replays are logged."""

    def __init__(self, cuda: "FakeCuda") -> None:
        self._cuda = cuda
        self._capturing = False

    def capture_begin(self, *, pool: int, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"
        self._capturing = True
        self._cuda.captures += 1
        self._cuda.most_captures = max(self._cuda.most_captures, self._cuda.captures)
        self._cuda.record(f"capture into pool {pool}")
        time.sleep(self._cuda.seconds)

    def capture_end(self) -> None:
        self._cuda.captures -= self._capturing
        self._capturing = False
        self._cuda.record("captured")

    def replay(self) -> None:
        self._cuda.record("replay")

    def reset(self) -> None:
        self._cuda.record("reset")


class FakeCuda:
    """The part of `torch.cuda` that captures and replays graphs. It only logs.

    A step whose name is in `failing` raises an error after it is logged. `seconds` is how long a
    capture takes, and `most_captures` the largest number of captures at a time.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failing: list[str] = []
        self.seconds = 0.0
        self.device_index: int | None = None  # as the CPU's, which stands in for the GPU
        self.captures = self.most_captures = self._pools = 0
        self._caller = FakeStream("caller", self.log)
        self._current = threading.local()

    def Stream(self, _: Any) -> FakeStream:
        return FakeStream("session", self.log)

    def current_device(self) -> int | None:
        return self.device_index

    def current_stream(self) -> FakeStream:
        return getattr(self._current, "stream", self._caller)

    def set_stream(self, stream: FakeStream) -> None:
        self._current.stream = stream

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        previous, self._current.stream = self.current_stream(), stream
        try:
            yield
        finally:
            self._current.stream = previous

    @contextmanager
    def device(self, _: Any) -> Iterator[None]:
        yield

    def graph_pool_handle(self) -> int:
        self._pools += 1
        return self._pools

    def CUDAGraph(self) -> FakeGraph:
        return FakeGraph(self)

    def record(self, step: str) -> None:
        self.log.append(f"{step} on {self.current_stream().name}")
        if step.split()[0] in self.failing:
            raise RuntimeError(f"{step} failed\nsearch for it in the manual")


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A fake `torch.cuda`; see `FakeCuda`."""
    cuda = FakeCuda()
    monkeypatch.setattr(torch, "cuda", cuda)
    return cuda
