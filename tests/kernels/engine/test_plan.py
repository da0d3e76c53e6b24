"""Test that a plan has only the needed nodes, stage by stage, and frees values after use."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from bertrt.errors import ArtifactError, InputError
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.plan import Plan, RowCount, Step, make_plan
from bertrt.kernels.ops.operator import DOMAIN


def op_types(steps: Sequence[Step]) -> list[str]:
    return [step.node.op_type for step in steps]


def plan_of(path: Path, *outputs: str) -> Plan:
    return make_plan(read_graph(path)[0], outputs)


def test_a_plan_for_one_output(tiny_path: Path) -> None:
    plan = plan_of(tiny_path, "pooled")
    assert op_types(plan.entry) == ["Pack", "FirstRows"]
    assert op_types(plan.device) == [
        *("EmbedLayerNorm", "Linear", "PackedAttention", "Linear", "AddLayerNorm"),
        *("SelectRows", "Linear"),
    ]
    assert plan.exit == ()
    assert plan.uploads == ("ids", "types", "positions", "offsets", "first")
    assert plan.entry_results == ()
    assert make_plan(read_graph(tiny_path)[0], ["start", "pooled"]).entry_results == ("rows",)
    assert plan.offsets == plan.attention_offsets == {"offsets"}
    assert plan.device_results == {"pooled": RowCount("first")}
    assert "word" in plan.weights
    assert "w_span" not in plan.weights


def test_stages_and_row_counts_of_all_outputs(tiny_path: Path) -> None:
    plan = plan_of(tiny_path, "logits", "pooled", "unit", "start", "end")
    assert op_types(plan.exit) == ["Unpack", "Unpack", "Split", "Squeeze", "Squeeze"]
    assert plan.device_results == {
        "scores": RowCount("picked"),
        "span": RowCount("ids"),
        "pooled": RowCount("first"),
        "unit": RowCount("offsets", -1),
    }


def test_values_are_freed_after_their_last_use(tiny_path: Path) -> None:
    plan = plan_of(tiny_path, "start", "pooled")
    steps = [*plan.entry, *plan.device, *plan.exit]
    freed: set[str] = set()
    for step in steps:
        assert not freed & set(step.node.inputs)
        freed.update(step.frees)
    computed = {name for step in steps for name in step.node.outputs}
    assert freed == computed - {"start", "pooled"}
    embedded = next(step for step in plan.device if "embedded" in step.frees)
    assert embedded.node.op_type == "AddLayerNorm"


def test_only_a_linear_before_a_layer_norm_may_be_partial(tiny_path: Path) -> None:
    plan = plan_of(tiny_path, "logits", "start")
    assert [step.node.outputs[0] for step in plan.device if step.allows_partial_sums] == ["summed"]


def residuals_of(path: Path, *outputs: str) -> dict[str, str]:
    steps = plan_of(path, *outputs).device
    return {step.node.outputs[0]: step.residual for step in steps if step.residual}


def test_a_linear_may_overwrite_the_residual_that_comes_after_it(tiny_path: Path) -> None:
    assert residuals_of(tiny_path, "logits", "start") == {"summed": "embedded"}


def add_bias(nodes: Any) -> None:
    nodes[4].input.append("b_out")


def use_activation(nodes: Any) -> None:
    nodes[4].attribute.append(helper.make_attribute("activation", "gelu"))


def read_residual_later(nodes: Any) -> None:
    nodes[15].input[0] = "embedded"


def multiply_the_residual(nodes: Any) -> None:
    nodes[4].input[0] = "embedded"


def view_the_residual(nodes: Any) -> None:
    cast = helper.make_node("Cast", ["embedded"], ["exact"], to=TensorProto.FLOAT)
    nodes[15].input[0] = "exact"
    nodes.insert(2, cast)


def delay_the_layer_norm(nodes: Any) -> None:
    nodes[4].output[0], nodes[5].input[0] = "first_sum", "first_sum"
    between = helper.make_node("Linear", ["context", "w_out"], ["again"], domain=DOMAIN)
    nodes.insert(5, between)
    nodes[16].input[0] = "again"


def use_no_residual(nodes: Any) -> None:
    del nodes[5].input[4]


@pytest.mark.parametrize(
    "change",
    [
        *(add_bias, use_activation, read_residual_later, multiply_the_residual),
        *(view_the_residual, delay_the_layer_norm, use_no_residual),
    ],
)
def test_other_residuals_are_not_overwritten(
    change: Callable[[Any], None], tiny: onnx.ModelProto, tmp_path: Path
) -> None:
    change(tiny.graph.node)
    onnx.save(tiny, tmp_path / "model.onnx")
    assert residuals_of(tmp_path / "model.onnx", "logits", "start") == {}


def test_a_residual_that_is_an_output_is_not_overwritten(
    tiny: onnx.ModelProto, tmp_path: Path
) -> None:
    tiny.graph.output.append(helper.make_tensor_value_info("embedded", TensorProto.FLOAT, None))
    onnx.save(tiny, tmp_path / "model.onnx")
    assert residuals_of(tmp_path / "model.onnx", "start", "embedded") == {}


def test_an_unknown_output_is_refused(tiny_path: Path) -> None:
    with pytest.raises(InputError, match="unknown output 'x': this graph gives logits, pooled"):
        plan_of(tiny_path, "x")


def test_entry_nodes_cannot_read_device_values(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    masked = next(node for node in tiny.graph.node if node.op_type == "MaskedRows")
    masked.input[0] = "x"
    onnx.save(tiny, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="MaskedRows needs 'x' before that is computed"):
        plan_of(tmp_path / "model.onnx", "logits")


def test_arithmetic_on_weights_alone_is_refused(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    tiny.graph.node.append(helper.make_node("UnitRows", ["word"], ["long"], domain=DOMAIN))
    tiny.graph.output[0].name = "long"
    onnx.save(tiny, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="UnitRows works on 'word', a weight"):
        plan_of(tmp_path / "model.onnx", "long")
