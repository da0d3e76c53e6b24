"""The traces that tests share are those that each would make, and structures are told apart."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx_ir as ir
import pytest
import torch
import transformers

from bertrt.export import sparse_model
from bertrt.export.sparse_model import SparseModel
from bertrt.export.tracing import torch_export
from bertrt.export.tracing.trace import trace

SIZES = {
    "vocab_size": 31,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 11,
    "max_position_embeddings": 9,
}


def model_of(seed: int = 0, *, name: str = "BertForMaskedLM", **changes: Any) -> Any:
    torch.manual_seed(seed)
    return getattr(transformers, name)(transformers.BertConfig(**SIZES, **changes)).eval()


def test_a_shared_trace_is_the_trace(
    graphs: ModuleType,
    shared_traces: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, traced = graphs.head_of("BertForMaskedLM"), []

    def make_once(name: str, key: str, write: Callable[[Path], None]) -> Path:
        if not (path := tmp_path / key).exists():
            traced.append(key)
            write(path)
        return path

    def trace_with(export_graph: Any, seed: int) -> bytes:
        monkeypatch.setattr("bertrt.export.tracing.trace.export_graph", export_graph)
        return ir.to_proto(trace(model_of(seed), head)).SerializeToString()

    shared = shared_traces.share_traces(torch_export.export_graph, make_once)
    first, second = (trace_with(shared, seed) for seed in (1, 2))
    assert first != second
    assert second == trace_with(torch_export.export_graph, 2)
    assert len(traced) == 1


def test_the_structure_is_all_but_the_parameters(
    shared_traces: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    structure = shared_traces.structure
    expected = structure(model_of(1))
    assert structure(model_of(2, id2label={0: "A", 1: "B"})) == expected
    untied = model_of(1)
    decoder = untied.cls.predictions.decoder
    decoder.weight = torch.nn.Parameter(decoder.weight.detach().clone())
    buffer = model_of(1)
    buffer.bert.embeddings.position_ids += 1
    others = [
        model_of(1, hidden_act="relu"),
        model_of(1, is_decoder=True),
        model_of(1, type_vocab_size=3),
        model_of(1, name="BertLMHeadModel"),
        model_of(1).double(),
        model_of(1).train(),
        untied,
        buffer,
        (model_of(1), {"axes": 1}),
        SparseModel(model_of(1), "max", "relu"),
        SparseModel(model_of(1), "sum", "relu"),
    ]
    digests = [expected, *map(structure, others)]
    monkeypatch.setattr(sparse_model, "_PIECE", 7)
    digests.append(structure(others[-1]))
    assert len(set(digests)) == len(digests)


def test_sets_are_equal_in_any_order(shared_traces: ModuleType) -> None:
    first, second = {0, 8}, {8, 0}
    assert list(first) != list(second)
    assert shared_traces.structure(first) == shared_traces.structure(second)
