"""The model, the graph and the batches that the steps measure."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.inputs import fixed_inputs
from benchmarks.data.models import Model
from benchmarks.data.vocabulary import SIZE
from benchmarks.gpu.batches import BATCHES, MIXED
from benchmarks.gpu.visit.visit import Visit

__all__ = ["make_batch", "make_graph", "make_module", "shapes"]

_DRY_BATCHES = {"1x8": [8], MIXED: [5, 9, 3]}
_DRY_SIZES = {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
}
_VOCABULARY = Model("BERT-base", "", "random", cls=2, sep=3, mask=4, pad=0, vocabulary=SIZE)


def shapes(visit: Visit) -> dict[str, list[int]]:
    """Return the lengths of each batch by its name."""
    return _DRY_BATCHES if visit.dry_run else BATCHES


def make_module(visit: Visit) -> Any:
    """Return a BertModel of BERT-base's size in float32, with the same random weights each time."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=SIZE, **(_DRY_SIZES if visit.dry_run else {}))
    return transformers.BertModel(config).eval()


def make_graph(visit: Visit) -> Path:
    """Return the file of that model's graph in float16, which the first step that asks writes."""
    from benchmarks.gpu.visit.bert_graph import write_graph

    path = visit.work / "graph" / "model.onnx"
    if not path.exists():
        # Renamed when it is complete: a step may end in the middle of it.
        staging = visit.work / "graph.new"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        write_graph(make_module(visit), staging / path.name)
        staging.rename(path.parent)
    return path


def make_batch(lengths: list[int]) -> dict[str, np.ndarray]:
    """Return the model's inputs, int64 [B, S], for texts of these lengths."""
    return dict(fixed_inputs(_VOCABULARY, lengths)._asdict())
