"""The model's config: transformers' defaults, labels in the order of their ids, and damage."""

from typing import Any

import pytest

from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import ArtifactError


def test_missing_fields_have_the_defaults_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config, reference = ModelConfig.from_json({}), transformers.BertConfig()
    for name in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
        "type_vocab_size",
        "problem_type",
    ):
        assert getattr(config, name) == getattr(reference, name), name
    assert config.is_decoder is False
    assert config.labels == tuple(reference.id2label.values())
    assert config.label2id == reference.label2id
    assert config.eos_token_ids == ()


def test_labels_are_in_the_order_of_their_ids() -> None:
    names = {"10": "tenth", "0": "zeroth", "2": "second"}
    labels = ModelConfig.from_json({"id2label": names}).labels
    assert len(labels) == 11
    assert (labels[0], labels[2], labels[10]) == ("zeroth", "second", "tenth")
    assert labels[1] == "LABEL_1"
    assert ModelConfig.from_json({"num_labels": 3}).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_label_ids_follow_the_labels_unless_they_are_given() -> None:
    names = {"0": "no", "1": "yes"}
    assert ModelConfig.from_json({"id2label": names}).label2id == {"no": 0, "yes": 1}
    config = ModelConfig.from_json({"id2label": names, "label2id": {"yes": 7}})
    assert config.label2id == {"yes": 7}


@pytest.mark.parametrize(
    ("value", "ids"), [(None, ()), (3, (3,)), (0, (0,)), ([3, 7], (3, 7)), ([], ())]
)
def test_end_of_sequence_ids(value: Any, ids: tuple[int, ...]) -> None:
    assert ModelConfig.from_json({"eos_token_id": value}).eos_token_ids == ids


@pytest.mark.parametrize(
    "data", [{"hidden_size": "wide"}, {"vocab_size": None}, {"id2label": ["no"]}, {"id2label": 3}]
)
def test_a_damaged_config_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"config\.json is damaged: "):
        ModelConfig.from_json(data)
