"""The model's config: transformers' defaults, and damage."""

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
    assert config.eos_token_ids == ()


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
