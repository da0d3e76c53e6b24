"""A graph of an older opset gives the same answers, and has no operator that the opset lacks."""

from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bertrt.errors import ExportError
from bertrt.export.heads import HEADS
from bertrt.export.opsets.attention import decompose_attention
from bertrt.export.opsets.gelu import decompose_gelu
from bertrt.export.opsets.lower import lower_opset
from bertrt.export.pipelines.cpu import fuse_for_cpu

ALL_POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def lowered(graphs: ModuleType, class_name: str, opset: int, **changes: Any) -> ir.Model:
    """Return the head's graph for the device any in an opset."""
    model = graphs.traced(class_name, **changes)
    vectors = graphs.vectors_of(class_name, *ALL_POOLINGS)
    config = graphs.model_of(class_name, **changes).config
    fuse_for_cpu(model, config, graphs.head_of(class_name), "any", mask_id=4, vectors=vectors)
    lower_opset(model, opset)
    return model


@pytest.mark.parametrize("class_name", [head.class_name for head in HEADS])
def test_every_head_in_the_oldest_opset(graphs: ModuleType, class_name: str) -> None:
    model = lowered(graphs, class_name, 17)
    assert not {"Attention", "Gelu"} & set(graphs.operators(model))
    proto = ir.to_proto(model)
    assert (proto.ir_version, proto.opset_import[0].version) == (8, 17)
    onnx.checker.check_model(proto, full_check=True)
    exact = lowered(graphs, class_name, 23)
    for batch, sequence in ((1, 1), (3, 11)):
        inputs = graphs.random_inputs(class_name, batch, sequence)
        answer, expected = graphs.run(model, inputs), graphs.run(exact, inputs)
        assert list(answer) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("opset", "ir_version", "has_gelu"), [(18, 8, False), (20, 9, True), (21, 10, True)]
)
def test_opsets_between(graphs: ModuleType, opset: int, ir_version: int, has_gelu: bool) -> None:
    model = lowered(graphs, "BertModel", opset)
    assert "Attention" not in graphs.operators(model)
    assert ("Gelu" in graphs.operators(model)) == has_gelu
    proto = ir.to_proto(model)
    assert (proto.ir_version, proto.opset_import[0].version) == (ir_version, opset)
    onnx.checker.check_model(proto, full_check=True)
    inputs = graphs.random_inputs("BertModel", 3, 11)
    expected = graphs.run(lowered(graphs, "BertModel", 23), inputs)
    for name, value in graphs.run(model, inputs).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_row_without_tokens_is_finite(graphs: ModuleType) -> None:
    """Its padding mask is all zeros, and no answer of the rows beside it changes."""
    model = lowered(graphs, "BertModel", 17)
    inputs = graphs.random_inputs("BertModel", 2, 5)
    expected = graphs.run(model, inputs)["last_hidden_state"][0]
    inputs["attention_mask"][1] = 0
    answer = graphs.run(model, inputs)["last_hidden_state"]
    assert np.isfinite(answer).all()
    np.testing.assert_array_equal(answer[0], expected)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(check_fusion: Any, from_text: Any, approximate: str) -> None:
    model = from_text(
        f"""g (float[B, 7] x) => (float[B, 7] y) {{
            y = Gelu <approximate: string = "{approximate}"> (x)
        }}"""
    )
    x = np.linspace(-30, 30, 70, dtype=np.float32).reshape(10, 7)
    inner = {"none": ["Div", "Erf"], "tanh": ["Mul", "Mul", "Mul", "Add", "Mul", "Tanh"]}
    after = [*inner[approximate], "Add", "Mul", "Mul"]
    check_fusion(model, decompose_gelu, {"x": x}, count=1, after=after)


@pytest.mark.parametrize("attribute", ["is_causal: int = 1", "softcap: float = 2.0"])
def test_other_attention_stays_and_is_refused(from_text: Any, attribute: str) -> None:
    text = f"""g (float[B, 4, S, 8] q, float[B, 4, S, 8] k, float[B, 4, S, 8] v, bool[B, 1, S, S] m)
        => (float[B, 4, S, 8] y) {{ y = Attention <{attribute}> (q, k, v, m) }}"""
    assert decompose_attention(from_text(text)) == 0
    with pytest.raises(ExportError, match="Attention, which opset 20 lacks: pass --opset 23"):
        lower_opset(from_text(text), 20)


def test_an_operator_that_the_opset_lacks(graphs: ModuleType) -> None:
    changes = {"hidden_act": "mish"}
    assert "Mish" in graphs.operators(lowered(graphs, "BertModel", 18, **changes))
    with pytest.raises(ExportError, match="Mish, which opset 17 lacks: pass --opset 18"):
        lowered(graphs, "BertModel", 17, **changes)
