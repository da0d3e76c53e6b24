"""The parity check accepts the model's own graph and refuses any other."""

import dataclasses
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.artifact.targets import OPTIMIZATION_LEVEL
from bertrt.errors import ParityError
from bertrt.export.heads import HEADS
from bertrt.export.parity.comparison import Comparison
from bertrt.export.parity.float32 import ParityReport, check_parity
from bertrt.export.pipelines.cpu import fuse_for_cpu


def check(
    graphs: ModuleType,
    class_name: str,
    graph: ir.Model,
    path: Path,
    *,
    level: str = OPTIMIZATION_LEVEL["cpu"],
    mask_id: int | None = None,
    pooling: tuple[str, ...] = (),
    **changes: Any,
) -> ParityReport:
    ir.save(graph, path)
    model, head = graphs.model_of(class_name, **changes), graphs.head_of(class_name)
    return check_parity(
        model,
        head,
        path,
        optimization_level=level,
        mask_id=mask_id,
        vectors=graphs.vectors_of(class_name, *pooling),
    )


FIRST, MASKED = " (first_token_only)", " (masked_only)"
OPTIONAL = {
    "BertModel": (
        "sentence_embedding",
        f"last_hidden_state{FIRST}",
        f"pooler_output{FIRST}",
    ),
    "BertForMaskedLM": (f"logits{MASKED}",),
    "BertForPreTraining": (f"prediction_logits{MASKED}", f"seq_relationship_logits{MASKED}"),
}


@pytest.mark.parametrize("target", ["any", "cpu"])
@pytest.mark.parametrize("class_name", [head.class_name for head in HEADS])
def test_every_head_passes(
    graphs: ModuleType, class_name: str, target: str, tmp_path: Path
) -> None:
    graph, head = graphs.traced(class_name), graphs.head_of(class_name)
    config, vectors = graphs.model_of(class_name).config, graphs.vectors_of(class_name)
    fuse_for_cpu(graph, config, head, target, mask_id=4, vectors=vectors)
    path = tmp_path / "g.onnx"
    report = check(graphs, class_name, graph, path, level=OPTIMIZATION_LEVEL[target], mask_id=4)
    names = tuple(output.name for output in report.outputs)
    assert names[: len(head.outputs)] == head.outputs
    for output in report.outputs:
        assert 0 < output.absolute_error < 1e-4
        assert 0 < output.relative_error < 1e-4
        assert output.cosine > 0.999999
        assert output.argmax_agreement > 0.99
        # Columns of values below 0.1 have a smaller one.
        assert 2e-5 < output.bound <= 1e-4
        assert output.eager_error is None
    assert json.loads(json.dumps(dataclasses.asdict(report)))["outputs"]
    extra = OPTIONAL.get(class_name, ())
    if target == "any":
        extra = tuple(name for name in extra if name == "sentence_embedding")
    assert names[len(head.outputs) :] == extra


@pytest.mark.parametrize(
    ("class_name", "shapes"),
    [
        ("BertModel", "1x1 1x7 1x24 3x33 2x40"),
        ("BertForMultipleChoice", "1x3x1 1x3x7 1x1x24 3x3x33 2x3x40"),
        ("BertLMHeadModel", "1x1 1x7 1x3+4 1x24 1x12+12 3x33 3x16+17 2x40 2x20+20"),
    ],
)
def test_shapes(graphs: ModuleType, class_name: str, shapes: str, tmp_path: Path) -> None:
    report = check(graphs, class_name, graphs.traced(class_name), tmp_path / "g.onnx")
    assert report.shapes == tuple(shapes.split())


def test_a_checkpoint_with_few_positions_and_one_token_type(
    graphs: ModuleType, tmp_path: Path
) -> None:
    changes = {"max_position_embeddings": 7, "type_vocab_size": 1, "num_hidden_layers": 1}
    graph = graphs.traced("BertForTokenClassification", **changes)
    path = tmp_path / "g.onnx"
    report = check(graphs, "BertForTokenClassification", graph, path, **changes)
    assert report.shapes == ("1x1", "1x7", "3x7", "2x7")


def test_one_perturbed_weight(graphs: ModuleType, tmp_path: Path) -> None:
    graph = graphs.traced("BertForMaskedLM")
    weight = graph.graph.initializers["bert.encoder.layer.1.output.dense.weight"]
    data = weight.const_value.numpy().copy()
    data[0, 0] += 0.05
    weight.const_value = ir.tensor(data, name=weight.name)
    with pytest.raises(
        ParityError,
        match=r"logits at shape 1x1 differs .* by 0\.\d+, .* at most 0\.0001 is allowed, the "
        r"absolute bound; .* not rounding, .*: try --device any, .* report this error",
    ):
        check(graphs, "BertForMaskedLM", graph, tmp_path / "g.onnx")


def test_a_graph_that_ignores_the_mask(graphs: ModuleType, tmp_path: Path) -> None:
    graph = graphs.traced("BertForTokenClassification")
    for node in graph.graph:
        if node.op_type == "Attention":
            node.replace_input_with(3, None)
    with pytest.raises(ParityError, match="logits at shape 3x33"):
        check(graphs, "BertForTokenClassification", graph, tmp_path / "g.onnx")


def test_rows_of_another_token(graphs: ModuleType, tmp_path: Path) -> None:
    graph, config = graphs.traced("BertForMaskedLM"), graphs.model_of("BertForMaskedLM").config
    fuse_for_cpu(graph, config, graphs.head_of("BertForMaskedLM"), "cpu", mask_id=5)
    with pytest.raises(ParityError, match=r"logits \(masked_only\) at shape 1x7 has shape"):
        check(graphs, "BertForMaskedLM", graph, tmp_path / "g.onnx", mask_id=4)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_a_wrong_vector(graphs: ModuleType, pooling: str, tmp_path: Path) -> None:
    graph, config = graphs.traced("BertModel"), graphs.model_of("BertModel").config
    vectors = graphs.vectors_of("BertModel", pooling)
    fuse_for_cpu(graph, config, graphs.head_of("BertModel"), "cpu", vectors=vectors)
    report = check(graphs, "BertModel", graph, tmp_path / "g.onnx", pooling=(pooling,))
    names = [output.name for output in report.outputs]
    assert (f"sentence_embedding{FIRST}" in names) == (pooling == "cls")
    # Without its length as a divisor.
    node = next(n for n in graph.graph if n.outputs[0].name == "sentence_embedding")
    divisor = node.inputs[1].producer()
    node.replace_input_with(1, divisor.inputs[1])
    with pytest.raises(ParityError, match="sentence_embedding at shape 1x1"):
        check(graphs, "BertModel", graph, tmp_path / "g.onnx", pooling=(pooling,))


def test_another_pooling_than_the_models(graphs: ModuleType, tmp_path: Path) -> None:
    graph, config = graphs.traced("BertModel"), graphs.model_of("BertModel").config
    vectors = graphs.vectors_of("BertModel", "mean")
    fuse_for_cpu(graph, config, graphs.head_of("BertModel"), "cpu", vectors=vectors)
    with pytest.raises(ParityError, match="sentence_embedding at shape 1x7"):
        check(graphs, "BertModel", graph, tmp_path / "g.onnx", pooling=("weightedmean",))


def test_a_graph_that_ignores_the_cache(graphs: ModuleType, tmp_path: Path) -> None:
    graph = graphs.traced("BertLMHeadModel")
    positions = next(node for node in graph.graph if node.op_type == "Range")
    positions.replace_input_with(0, zero(graph))
    positions.replace_input_with(1, sequence_length(graph))
    with pytest.raises(ParityError, match=r"shape 1x3\+4"):
        check(graphs, "BertLMHeadModel", graph, tmp_path / "g.onnx")


def zero(graph: ir.Model) -> ir.Value:
    return next(
        value
        for value in graph.graph.initializers.values()
        if value.dtype == ir.DataType.INT64 and value.const_value.numpy().tolist() == 0
    )


def sequence_length(graph: ir.Model) -> ir.Value:
    add = next(node for node in graph.graph if node.name == "Add")
    value: ir.Value = add.inputs[0]
    return value


def test_a_fixed_batch_size(graphs: ModuleType, tmp_path: Path) -> None:
    graph = graphs.traced("BertForTokenClassification")
    fuse_for_cpu(
        graph,
        graphs.model_of("BertForTokenClassification").config,
        graphs.head_of("BertForTokenClassification"),
        "any",
    )
    for node in graph.graph:
        shape = node.inputs[1] if node.op_type == "Reshape" else None
        if shape is not None and shape.const_value is not None:
            fixed = shape.const_value.numpy().copy()
            fixed[0] = 1
            shape.const_value = ir.tensor(fixed, name=shape.name)
    with pytest.raises(ParityError, match="does not run at shape 3x33"):
        check(graphs, "BertForTokenClassification", graph, tmp_path / "g.onnx")


def test_not_a_number(graphs: ModuleType, tmp_path: Path) -> None:
    graph = graphs.traced("BertForTokenClassification")
    bias = graph.graph.initializers["classifier.bias"]
    bias.const_value = ir.tensor(np.full(2, np.nan, dtype=np.float32), name=bias.name)
    with pytest.raises(ParityError, match="logits at shape 1x1: the graph gives values"):
        check(graphs, "BertForTokenClassification", graph, tmp_path / "g.onnx")


def test_another_heads_graph_and_an_invalid_file(graphs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="no output last_hidden_state"):
        check(graphs, "BertModel", graphs.traced("BertForMaskedLM"), tmp_path / "g.onnx")
    (tmp_path / "none.onnx").write_bytes(b"not a graph")
    with pytest.raises(ParityError, match=r"does not run at shape 1x1 \(.*none\.onnx"):
        check_parity(
            graphs.model_of("BertModel"),
            graphs.head_of("BertModel"),
            tmp_path / "none.onnx",
            optimization_level=OPTIMIZATION_LEVEL["cpu"],
        )


class TestComparison:
    """The arithmetic, on small arrays."""

    reference = np.array([[[3.0, 4.0], [1.0, 0.0]]], dtype=np.float32)
    everything = np.ones((1, 2, 2), dtype=bool)

    def test_errors(self) -> None:
        comparison = Comparison("logits", by_column=True)
        answer = np.array([[[4.0, 3.0], [1.0, 0.0]]], dtype=np.float32)
        comparison.add(answer, self.reference, self.everything, "1x2")
        result = comparison.result()
        assert (result.absolute_error, result.relative_error) == (1.0, 0.25)
        assert result.argmax_agreement == 0.5
        assert math.isclose(result.cosine, 24 / 25)

    def test_padding_does_not_count(self) -> None:
        comparison = Comparison("logits", by_column=True)
        answer = self.reference.copy()
        answer[0, 1] = 99.0
        valid = self.everything.copy()
        valid[0, 1] = False
        comparison.add(answer, self.reference, valid, "1x2")
        result = comparison.result()
        assert (result.absolute_error, result.argmax_agreement, result.cosine) == (0.0, 1.0, 1.0)

    def test_padding_inside_a_row_does_not_count(self) -> None:
        comparison = Comparison("start_logits", by_column=False)
        reference = np.array([[1.0, 2.0, 9.0]], dtype=np.float32)
        answer = np.array([[1.0, 2.0, -9.0]], dtype=np.float32)
        comparison.add(answer, reference, np.array([[True, True, False]]), "1x3")
        result = comparison.result()
        assert (result.absolute_error, result.argmax_agreement, result.cosine) == (0.0, 1.0, 1.0)

    def test_another_shape(self) -> None:
        comparison = Comparison("logits", by_column=True)
        with pytest.raises(ParityError, match=r"has shape \[1, 2, 1\], .* \[1, 2, 2\]"):
            comparison.add(self.reference[..., :1], self.reference, self.everything, "1x2")

    def test_a_checkpoint_that_is_not_finite(self) -> None:
        comparison = Comparison("logits", by_column=True)
        broken = np.full_like(self.reference, np.inf)
        with pytest.raises(ParityError, match="the checkpoint itself"):
            comparison.add(broken, broken, self.everything, "1x2")

    def test_zeros_agree(self) -> None:
        comparison = Comparison("logits", by_column=True)
        zeros = np.zeros_like(self.reference)
        comparison.add(zeros, zeros, self.everything, "1x2")
        assert comparison.result().cosine == 1.0
        assert comparison.result().relative_error == 0.0
