"""ALBERT: its layers are stored once in every graph, and run in the order of its groups."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from transformers import AlbertConfig

import bertrt
from bertrt.export.architectures.albert import Albert
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.graph.equal_weights import equal_weights, share_weights
from bertrt.export.graph.shared_memory import by_memory
from bertrt.export.heads import head_for
from bertrt.export.pipelines.cpu import fuse_for_cpu
from bertrt.export.tracing.trace import trace

Exported = Callable[..., SimpleNamespace]
Arrays = dict[str, np.ndarray]

# Matrices that are large beside vectors and nodes.
DEEP = {
    "num_hidden_layers": 12,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "embedding_size": 24,
}
TARGETS: list[tuple[dict[str, Any], float]] = [
    ({}, 1),
    ({"layout": "hub"}, 1),
    ({"device": "cuda", "engine": "ort", "dtype": "float16"}, 2),
    ({"device": "cuda", "engine": "triton", "dtype": "bfloat16"}, 2),
]


@pytest.mark.parametrize(("options", "smaller"), TARGETS, ids=str)
def test_twelve_layers_are_stored_once(
    exported: Exported, options: dict[str, Any], smaller: float
) -> None:
    """All graphs of an artifact are together nearly as small as the checkpoint."""
    # Small weights, or the states of twelve layers that are one grow.
    made = exported("albert", "ForTokenClassification", tuple(options.items()), spread=0.02, **DEEP)
    weights = (made.checkpoint / "model.safetensors").stat().st_size / smaller
    graphs = [path for path in made.folder.rglob("*") if ".onnx" in path.name]
    size = sum(path.stat().st_size for path in graphs)
    # Each layer has vectors, some of them changed by fusions, and nodes: in both graphs for a CPU.
    assert weights < size < weights + 12 * len(graphs) * 20_000


def test_both_graphs_for_a_cpu_share_the_layer(exported: Exported) -> None:
    """Also as kernels of convolutions, for AVX-512."""
    made = exported("albert", "ForTokenClassification", (), spread=0.02, **DEEP)
    for name, operator in (("model.onnx", "FusedMatMul"), ("model_avx512.onnx", "Conv")):
        graph = ir.load(made.folder / name).graph
        weights = {node.inputs[1].name for node in graph if node.op_type == operator}
        count = sum(node.op_type == operator for node in graph)
        assert (len(weights), count) == (5, 60)  # three of them before attention


def test_groups_of_layers(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
) -> None:
    """Two groups of two layers, the first of which runs twice."""
    sizes = {"num_hidden_layers": 3, "num_hidden_groups": 2, "inner_group_num": 2}
    made = exported("albert", "ForTokenClassification", (), **sizes)
    arrays = batch(made.checkpoint)
    assert made.manifest.model.num_hidden_layers == 6
    with bertrt.load(made.folder, threads=1) as rt:
        check_equal(rt.run(**arrays), theirs(made.checkpoint, **arrays), arrays["attention_mask"])


def test_hidden_states_and_attentions_are_of_every_layer(
    exported: Exported, batch: Callable[..., Arrays]
) -> None:
    extra = (("output_hidden_states", True), ("output_attentions", True))
    sizes = {"num_hidden_layers": 2, "inner_group_num": 2}
    made = exported("albert", "ForTokenClassification", extra, **sizes)
    arrays = batch(made.checkpoint, range(9, 12))
    model = transformers.AlbertForTokenClassification.from_pretrained(
        made.checkpoint, attn_implementation="eager"
    )
    with torch.inference_mode():
        expected = model(
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
            output_hidden_states=True,
            output_attentions=True,
        )
    with bertrt.load(made.folder, threads=1) as rt:
        found = rt.run(**arrays)
    for name, count in (("hidden_states", 5), ("attentions", 4)):
        assert len(found[name]) == len(expected[name]) == count
        for ours, theirs in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(ours[0, ..., :9, :9], theirs[0, ..., :9, :9], atol=1e-4)


def test_each_layer_has_the_weights_that_transformers_runs() -> None:
    """Also where groups do not divide the layers, and rounding decides."""
    name = "albert.encoder.albert_layer_groups.{}.albert_layers.{}.ffn.weight"
    for layers, groups, inner in [(1, 1, 1), (12, 1, 1), (5, 3, 2), (18, 14, 1), (27, 21, 3)]:
        config = AlbertConfig(
            num_hidden_layers=layers, num_hidden_groups=groups, inner_group_num=inner
        )
        ours: dict[str, tuple[int, int]] = {}
        for group in range(groups):
            for layer in range(inner):
                for bert in Albert(config).bert_names(name.format(group, layer), "fill-mask"):
                    assert bert not in ours
                    ours[bert] = group, layer
        runs = _order(config)
        assert ours == {
            f"bert.encoder.layer.{index}.intermediate.dense.weight": run
            for index, run in enumerate(runs)
        }


def _order(config: AlbertConfig) -> list[tuple[int, int]]:
    """Return the group and layer that transformers runs, in order."""
    from transformers.models.albert.modeling_albert import AlbertTransformer

    config.hidden_size, config.intermediate_size, config.num_attention_heads = 8, 8, 2
    config.embedding_size, config._attn_implementation = 8, "eager"
    encoder = AlbertTransformer(config).eval()
    runs = []
    for group, layers in enumerate(encoder.albert_layer_groups):
        for index, layer in enumerate(layers.albert_layers):
            layer.register_forward_pre_hook(lambda *_, run=(group, index): runs.append(run))
    with torch.inference_mode():
        encoder(torch.zeros(1, 2, 8), attention_mask=None)
    return runs


def test_a_group_that_the_config_lacks_is_an_error(
    encoder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in encoder("albert", "Model", num_hidden_groups=2).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = transformers.AlbertConfig.from_pretrained(folder)
    config.num_hidden_groups = 1
    config.save_pretrained(folder)
    with pytest.raises(bertrt.BertrtError, match="the config contradicts the weights"):
        bertrt.export.export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_equal_matrices_are_stored_once() -> None:
    """Nothing else is: not vectors, nor matrices that are equal in part, in bytes or in shape."""
    one = np.arange(12, dtype=np.float32).reshape(3, 4)
    other = one.copy()
    other[2, 3] = 0
    stored = {
        "one": one,
        "same": one.copy(),
        "other": other,
        "turned": one.reshape(4, 3),
        "integers": one.view(np.int32),
        "vector": one[0],
        "vector2": one[0].copy(),
        "third": one.copy(),
    }
    values = {
        name: ir.Value(name=name, const_value=ir.tensor(array, name=name))
        for name, array in stored.items()
    }
    nodes = [ir.node("Identity", [value]) for value in values.values()]
    graph = ir.Graph([], [], nodes=nodes, initializers=list(values.values()))
    model = ir.Model(graph, ir_version=10)
    found = [(first.name, [value.name for value in same]) for first, same in equal_weights(model)]
    assert found == [("one", ["same", "third"])]
    assert share_weights(model) == 2
    assert [node.inputs[0].name for node in nodes] == [
        {"same": "one", "third": "one"}.get(name, name) for name in stored
    ]
    assert set(graph.initializers) == set(stored) - {"same", "third"}
    assert share_weights(model) == 0


def test_layers_that_share_memory_share_their_copies(encoder: Callable[..., Path]) -> None:
    """Twelve layers need the memory of one while they are fused, and not that of twelve."""
    checkpoint = open_checkpoint(str(encoder("albert", "ForTokenClassification")))
    head = head_for(None, checkpoint.config["architectures"], (), checkpoint.architecture)
    module = build_model(head, checkpoint)
    graph = trace(module, head, cached=False)
    fuse_for_cpu(graph, module.config, head, "cpu", mask_id=4)
    products = [node for node in graph.graph if node.op_type == "FusedMatMul"]
    places = {node.inputs[1].const_value.numpy().ctypes.data for node in products}
    assert (len(products), len(places)) == (15, 5)


def test_values_are_grouped_by_memory() -> None:
    one, same = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    arrays = {"one": one, "same": same, "again": one, "part": one[:1], "turned": one.T}
    values = [
        ir.Value(name=name, const_value=ir.tensor(array, name=name))
        for name, array in arrays.items()
    ]
    groups = [[value.name for value in group] for group in by_memory(values)]
    assert groups == [["one", "again"], ["same"], ["part"], ["turned"]]
