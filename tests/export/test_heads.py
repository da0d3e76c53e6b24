"""The head of a task or of a config's architectures, and what weights can serve."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.heads import ENCODERS, HEADS, HeadSpec, head_for


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.task)
def test_a_task_or_its_class_gives_the_head(
    make_checkpoint: Callable[..., Path], head: HeadSpec
) -> None:
    assert head_for(head.task, ["BertForSomethingElse"]) is head
    for architectures in (
        [head.class_name],
        [f"TF{head.class_name}"],
        [f"Flax{head.class_name}"],
        ["MyBert", head.class_name],
    ):
        assert head_for(None, architectures) is head
    # The checkpoint of each head can serve it.
    with pytest.raises(ExportError) as caught:
        head_for(None, None, open_checkpoint(str(make_checkpoint(head.class_name))).weights)
    assert head.task in str(caught.value).rpartition("(")[2].rstrip(")").split(", ")


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.task)
def test_an_encoder_is_named_by_its_task_alone(encoder: HeadSpec) -> None:
    assert head_for(encoder.task, None) is encoder
    assert head_for(None, [encoder.class_name]) is not encoder


def test_other_names() -> None:
    assert head_for("zero-shot-classification", None).task == "text-classification"
    assert head_for(None, ["FlaxBertForCausalLM"]).task == "text-generation"
    with pytest.raises(ExportError, match="unknown task 'ner': choose one of feature-extraction"):
        head_for("ner", ["BertModel"])


@pytest.mark.parametrize("architectures", [None, [], [None], ["MyBert"], ["HF_ColBERT"]])
def test_the_error_names_the_architecture_and_what_the_weights_can_serve(
    architectures: list[str] | None,
) -> None:
    def message(*weights: str) -> str:
        with pytest.raises(ExportError) as caught:
            head_for(None, architectures, weights)
        text = str(caught.value)
        assert repr(architectures) in text
        return text.rpartition("(")[2].rstrip(")")

    assert message("bert.embeddings.x", "linear.weight") == "feature-extraction"
    assert message("encoder.x", "pooler.dense.bias") == "feature-extraction"
    assert message("qa_outputs.bias") == "feature-extraction, question-answering"
    assert message("classifier.bias") == "feature-extraction, token-classification"
    assert message("bert.pooler.dense.bias", "classifier.bias") == (
        "feature-extraction, text-classification, multiple-choice, token-classification"
    )
    assert message("cls.predictions.bias") == (
        "feature-extraction, text-generation, fill-mask, sparse-embedding"
    )
