"""The Triton engine's graph in half precision: its dtypes, and the bound of its error."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from bertrt.errors import ExportError, ParityError
from bertrt.export.half_precision.triton import to_half_precision
from bertrt.export.heads import HEADS
from bertrt.export.parity.half import HalfReport, check_half
from bertrt.export.pipelines.triton import fuse_for_triton
from bertrt.export.tracing.trace import trace
from bertrt.kernels.ops.operator import Stage
from bertrt.kernels.ops.registry import OPERATORS

MASK = 4
CASTS = {"BertModel": 2, "BertForPreTraining": 2}


@pytest.fixture(scope="module")
def halved(graphs: ModuleType) -> Callable[[str, str], ir.Model]:
    """A factory of a head's graph for the Triton engine, in a dtype."""

    def make(class_name: str, dtype: str) -> ir.Model:
        model = graphs.traced(class_name, cached=False)
        config = graphs.model_of(class_name).config
        fuse_for_triton(model, config, graphs.head_of(class_name), mask_id=MASK)
        assert to_half_precision(model, dtype) == CASTS.get(class_name, 1)
        return model

    return make


def check(
    graphs: ModuleType, class_name: str, model: ir.Model, dtype: str, path: Path
) -> HalfReport:
    ir.save(model, path)
    torch_model, head = graphs.model_of(class_name), graphs.head_of(class_name)
    return check_half(
        torch_model, head, path, dtype, engine="triton", optimization_level="disabled", mask_id=MASK
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("class_name", [head.class_name for head in HEADS])
def test_error_is_at_most_twice_pytorchs(
    graphs: ModuleType,
    halved: Callable[[str, str], ir.Model],
    class_name: str,
    dtype: str,
    tmp_path: Path,
) -> None:
    report = check(graphs, class_name, halved(class_name, dtype), dtype, tmp_path / "g.onnx")
    head = graphs.head_of(class_name)
    assert [output.name for output in report.outputs][: len(head.outputs)] == list(head.outputs)
    assert report.dtype == dtype
    eps = {"float16": 2**-10, "bfloat16": 2**-7}[dtype]
    for output in report.outputs:
        # The graph is in half precision: in float32 the error would be a thousandth of this.
        assert output.absolute_error > eps / 1000
        assert output.absolute_error <= output.bound
        # The bound is little more than twice PyTorch's error.
        assert 2 * output.eager_error <= output.bound <= 4 * output.eager_error
        assert output.cosine > 1 - 10 * eps


@pytest.mark.parametrize("class_name", ["BertModel", "BertForQuestionAnswering"])
def test_dtypes(halved: Callable[[str, str], ir.Model], class_name: str) -> None:
    for dtype, kind in (("float16", "FLOAT16"), ("bfloat16", "BFLOAT16")):
        model = halved(class_name, dtype)
        onnx.checker.check_model(ir.to_proto(model))
        kinds = {str(value.dtype) for value in model.graph.initializers.values()}
        assert kinds - {"INT64", "BOOL"} == {kind}
        assert {str(value.dtype) for value in model.graph.outputs} == {"FLOAT"}
        for node in model.graph:
            if node.op_type == "Cast":
                assert node.attributes.get_int("to") == ir.DataType.FLOAT
                source = OPERATORS[node.inputs[0].producer().op_type]
                assert source.stage is Stage.DEVICE
            elif node.op_type in ("Unpack", "Regroup"):
                assert node.inputs[0].producer().op_type == "Cast"


def test_float32_stays(graphs: ModuleType) -> None:
    model = graphs.traced("BertForMaskedLM")
    config = graphs.model_of("BertForMaskedLM").config
    fuse_for_triton(model, config, graphs.head_of("BertForMaskedLM"))
    before = ir.to_proto(model).SerializeToString()
    assert to_half_precision(model, "float32") == 0
    assert ir.to_proto(model).SerializeToString() == before


def test_a_weight_too_large_for_float16(graphs: ModuleType) -> None:
    for dtype in ("bfloat16", "float16"):
        model = graphs.traced("BertForTokenClassification")
        weight = model.graph.initializers["classifier.weight"]
        data = weight.const_value.numpy().copy()
        data[1, 3] = -70000.0
        weight.const_value = ir.tensor(data, name=weight.name)
        config = graphs.model_of("BertForTokenClassification").config
        fuse_for_triton(model, config, graphs.head_of("BertForTokenClassification"))
        if dtype == "bfloat16":
            assert to_half_precision(model, dtype) == 1
            continue
        with pytest.raises(ExportError, match=r"classifier\.weight\S* has .* -70000, .* bfloat16"):
            to_half_precision(model, dtype)


def test_a_larger_error_is_refused(
    graphs: ModuleType, halved: Callable[[str, str], ir.Model], tmp_path: Path
) -> None:
    """One bias is wrong by four times PyTorch's error."""
    model = halved("BertForTokenClassification", "float16")
    bias = model.graph.initializers["classifier.bias"]
    data = bias.const_value.numpy().copy()
    data[0] += np.float16(0.02)
    bias.const_value = ir.tensor(data, name=bias.name)
    with pytest.raises(ParityError, match=r"logits in float16 differs .* by 0\.0\d+, .* at most"):
        check(graphs, "BertForTokenClassification", model, "float16", tmp_path / "g.onnx")


def test_bfloat16_does_not_pass_as_float16(
    graphs: ModuleType, halved: Callable[[str, str], ir.Model], tmp_path: Path
) -> None:
    """The bound depends on the precision."""
    model = halved("BertModel", "bfloat16")
    with pytest.raises(ParityError, match="last_hidden_state in float16"):
        check(graphs, "BertModel", model, "float16", tmp_path / "g.onnx")


def test_answers_that_are_not_finite(
    graphs: ModuleType, halved: Callable[[str, str], ir.Model], tmp_path: Path
) -> None:
    model = halved("BertForTokenClassification", "float16")
    name = next(name for name in model.graph.initializers if "layer.0.output.dense.weight" in name)
    weight = model.graph.initializers[name]
    data = np.full_like(weight.const_value.numpy(), 60000)
    weight.const_value = ir.tensor(data, name=name)
    with pytest.raises(ParityError, match="values that are not finite"):
        check(graphs, "BertForTokenClassification", model, "float16", tmp_path / "g.onnx")


def test_large_activations_stay_finite(graphs: ModuleType, tmp_path: Path) -> None:
    """The results of a feed-forward layer are close to float16's largest value, 65504."""
    torch_model = copy.deepcopy(graphs.model_of("BertForTokenClassification"))
    head = graphs.head_of("BertForTokenClassification")
    dense = torch_model.bert.encoder.layer[0].output.dense
    with torch.no_grad():
        dense.weight.mul_(9000)
    model = trace(torch_model, head)
    fuse_for_triton(model, torch_model.config, head)
    to_half_precision(model, "float16")
    ir.save(model, tmp_path / "g.onnx")
    seen: list[float] = []
    hook = dense.register_forward_hook(lambda *call: seen.append(call[2].abs().max().item()))
    report = check_half(
        torch_model,
        head,
        tmp_path / "g.onnx",
        "float16",
        engine="triton",
        optimization_level="disabled",
    )
    hook.remove()
    assert 30_000 < max(seen) < 65_504
    assert report.outputs[0].absolute_error <= report.outputs[0].bound


def test_a_checkpoint_too_large_for_float16(
    graphs: ModuleType, halved: Callable[[str, str], ir.Model], tmp_path: Path
) -> None:
    """PyTorch's float16 overflows where its float32 does not, so there is no reference error."""
    ir.save(halved("BertForTokenClassification", "float16"), tmp_path / "g.onnx")
    torch_model = copy.deepcopy(graphs.model_of("BertForTokenClassification"))
    with torch.no_grad():
        torch_model.bert.encoder.layer[0].output.dense.weight.fill_(60000.0)
    head = graphs.head_of("BertForTokenClassification")
    with pytest.raises(ParityError, match=r"PyTorch's own answers in float16 .* bfloat16"):
        check_half(
            torch_model,
            head,
            tmp_path / "g.onnx",
            "float16",
            engine="triton",
            optimization_level="disabled",
        )
