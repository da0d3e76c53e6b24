"""The layers of every encoder are BERT's: they run the same operators, in the same time."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx_ir as ir
import pytest

Exported = Callable[..., SimpleNamespace]
HEAD = "ForTokenClassification"
# One operator each.
ACTIVATIONS = ("Gelu", "Relu")


def operators(graph: Path) -> list[str]:
    """Return the operators from the embeddings' LayerNormalization on, in order."""
    names = [node.op_type for node in ir.load(graph).graph]
    names = names[names.index("LayerNormalization") :]
    return ["activation" if name in ACTIVATIONS else name for name in names]


@pytest.fixture(scope="module")
def of_bert(exported: Exported) -> Path:
    return exported("bert", HEAD).folder


@pytest.mark.parametrize("graph", ["model.onnx", "model_avx512.onnx"])
@pytest.mark.parametrize("model_type", ["roberta", "distilbert"])
def test_after_the_embeddings_all_operators_are_berts(
    exported: Exported, of_bert: Path, model_type: str, graph: str
) -> None:
    found = operators(exported(model_type, HEAD).folder / graph)
    assert found == operators(of_bert / graph)
    assert found.count("activation") == 2


def test_projected_embeddings_add_one_layer(exported: Exported, of_bert: Path) -> None:
    """And the bias before the first sum, which no normalization before it can take."""
    albert = exported("albert", HEAD, (), num_hidden_layers=2, hidden_act="gelu").folder
    found, expected = (operators(folder / "model.onnx") for folder in (albert, of_bert))
    assert Counter(found) - Counter(expected) == {"MatMul": 1, "Add": 2}
    assert not Counter(expected) - Counter(found)
