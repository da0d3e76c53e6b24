"""A tiny graph of the dialect with every operator, and stand-ins for the kernels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bertrt.kernels.engine.program import Kernels
from bertrt.kernels.ops import DOMAIN, OPERATORS, REFERENCES, VERSION, Place

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
    def own(name: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
        given = ["" if one == "-" else one for one in inputs.split()]
        return helper.make_node(name, given, outputs.split(), domain=DOMAIN, **attributes)

    return [
        own("Pack", "input_ids token_type_ids attention_mask", "ids types positions rows offsets"),
        own("EmbedLayerNorm", "ids types positions word type position gamma beta", "embedded"),
        own("Linear", "embedded w_qkv", "qkv"),
        own("PackedAttention", "qkv offsets", "context", num_heads=2),
        own("Linear", "context w_out", "summed"),
        own("AddLayerNorm", "summed gamma beta b_out embedded", "x", epsilon=1e-5),
        own("FirstRows", "offsets rows", "first"),
        own("SelectRows", "x first", "cls"),
        own("Linear", "cls w_pool -", "pooled", activation="tanh"),
        own("MeanRows", "x offsets", "mean"),
        own("UnitRows", "mean", "unit"),
        own("MaskedRows", "ids masked_only", "picked", mask_id=MASK),
        own("SelectRows", "x picked", "chosen"),
        own("Linear", "chosen word", "scores", transposed=1),
        own("Unpack", "scores input_ids rows masked_only", "logits"),
        own("Linear", "x w_span", "span"),
        own("Unpack", "span input_ids rows", "spans"),
        helper.make_node("Split", ["spans"], ["one", "two"], axis=-1, num_outputs=2),
        helper.make_node("Squeeze", ["one", "axes"], ["start"]),
        helper.make_node("Squeeze", ["two", "axes"], ["end"]),
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
    """The graph, to change at will: outputs logits, pooled, unit, start and end."""
    return _model()


@pytest.fixture
def tiny_path(tiny: onnx.ModelProto, tmp_path: Path) -> Path:
    """The graph's file."""
    path = tmp_path / "model.onnx"
    onnx.save(tiny, path)
    return path


@pytest.fixture
def feeds_of() -> Callable[..., dict[str, np.ndarray]]:
    """A factory: the lengths of sequences to feeds, padded, with mask tokens and no flag.

    `hole` leaves a token out in the middle of each sequence of at least three.
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
    """A factory: feeds to the tiny graph's outputs by onnx.reference."""

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        evaluator = ReferenceEvaluator(_model(), new_ops=REFERENCES)
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))

    return run


class StandIn:
    """The references as kernels, which record what is launched and spoil rows that mean nothing.

    As from a kernel, rows of an attention's context from offsets[-1] on are not written: here they
    are NaN, and so is what is computed of them.
    """

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.rows: list[int] = []
        names = [name for name, one in OPERATORS.items() if one.place is Place.DEVICE]
        self.kernels = Kernels({name: self._kernel(name) for name in names})

    def _kernel(self, name: str) -> Callable[..., torch.Tensor]:
        def run(*given: Any, longest: int | None = None, **attributes: Any) -> torch.Tensor:
            arrays = [None if one is None else one.numpy() for one in given]
            result = OPERATORS[name].reference(*arrays, **attributes)
            if name == "PackedAttention":
                offsets = arrays[1]
                assert longest is not None
                assert np.diff(offsets).max() <= longest
                result[offsets[-1] :] = np.nan
            self.launched.append(name)
            self.rows.append(len(result))
            return torch.from_numpy(result)

        return run


@pytest.fixture
def stand_in() -> StandIn:
    """Kernels that are the references; see `StandIn`."""
    return StandIn()
