"""The plan: only what the outputs need, zone by zone, and each value until its last use."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import helper

from bertrt.errors import ArtifactError, InputError
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.plan import Height, Plan, Step, make_plan
from bertrt.kernels.ops import DOMAIN


def operators(steps: Sequence[Step]) -> list[str]:
    return [step.node.operator for step in steps]


def planned(path: Path, *outputs: str) -> Plan:
    return make_plan(read_graph(path)[0], outputs)


def test_what_one_output_needs(tiny_path: Path) -> None:
    plan = planned(tiny_path, "pooled")
    assert operators(plan.entry) == ["Pack", "FirstRows"]
    assert operators(plan.device) == [
        *("EmbedLayerNorm", "Linear", "PackedAttention", "Linear", "AddLayerNorm"),
        *("SelectRows", "Linear"),
    ]
    assert plan.exit == ()
    assert plan.uploads == ("ids", "types", "positions", "offsets", "first")
    assert plan.carried == ()
    assert make_plan(read_graph(tiny_path)[0], ["start", "pooled"]).carried == ("rows",)
    assert plan.offsets == plan.sequences == {"offsets"}
    assert plan.results == {"pooled": Height("first")}
    assert "word" in plan.weights
    assert "w_span" not in plan.weights


def test_zones_and_heights_of_all(tiny_path: Path) -> None:
    plan = planned(tiny_path, "logits", "pooled", "unit", "start", "end")
    assert operators(plan.exit) == ["Unpack", "Unpack", "Split", "Squeeze", "Squeeze"]
    assert plan.results == {
        "scores": Height("picked"),
        "span": Height("ids"),
        "pooled": Height("first"),
        "unit": Height("offsets", -1),
    }


def test_values_die_after_their_last_use_and_never_sooner(tiny_path: Path) -> None:
    plan = planned(tiny_path, "start", "pooled")
    steps = [*plan.entry, *plan.device, *plan.exit]
    dead: set[str] = set()
    for step in steps:
        assert not dead & set(step.node.inputs)
        dead.update(step.dies)
    made = {name for step in steps for name in step.node.outputs}
    assert dead == made - {"start", "pooled"}
    embedded = next(step for step in plan.device if "embedded" in step.dies)
    assert embedded.node.operator == "AddLayerNorm"


def test_partial_sums_go_from_a_linear_to_its_layer_norm_only(tiny_path: Path) -> None:
    plan = planned(tiny_path, "logits", "start")
    assert [step.node.outputs[0] for step in plan.device if step.sums] == ["summed"]


def test_an_unknown_output(tiny_path: Path) -> None:
    with pytest.raises(InputError, match="unknown output 'x': this graph gives logits, pooled"):
        planned(tiny_path, "x")


def test_a_way_back_from_the_device_is_no_plan(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    masked = next(node for node in tiny.graph.node if node.op_type == "MaskedRows")
    masked.input[0] = "x"
    onnx.save(tiny, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="MaskedRows needs 'x' before that is computed"):
        planned(tmp_path / "model.onnx", "logits")


def test_arithmetic_on_weights_alone_is_no_plan(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    tiny.graph.node.append(helper.make_node("UnitRows", ["word"], ["long"], domain=DOMAIN))
    tiny.graph.output[0].name = "long"
    onnx.save(tiny, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="UnitRows works on 'word', a weight"):
        planned(tmp_path / "model.onnx", "long")
