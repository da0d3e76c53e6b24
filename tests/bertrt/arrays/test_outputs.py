"""Outputs: which are fetched, and how a batch's outputs split into those of each text."""

from typing import Any

import numpy as np
import pytest

from bertrt.arrays.outputs import choose_outputs, split_rows
from bertrt.artifact.manifest import EmbeddingFacts, TensorSpec
from bertrt.errors import InputError

SPECS = (
    TensorSpec("last_hidden_state", "float32", ("batch", "sequence", 2)),
    TensorSpec("pooler_output", "float32", ("batch", 2)),
    TensorSpec("sentence_embedding", "float32", ("batch", 2), optional=True),
)


def test_the_default_is_the_outputs_of_transformers() -> None:
    assert choose_outputs(None, SPECS, {}) == ["last_hidden_state", "pooler_output"]


def test_chosen_outputs_come_once_and_in_order() -> None:
    requested = ["sentence_embedding", "pooler_output", "sentence_embedding"]
    assert choose_outputs(requested, SPECS, {}) == ["sentence_embedding", "pooler_output"]


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (
            "sentence_embedding",
            "outputs is 'sentence_embedding': give a list of last_hidden_state, pooler",
        ),
        ([], r"outputs is \[\]"),
        ({"sentence_embedding"}, "outputs is {'sentence_embedding'}"),
        (
            ["token_embedding"],
            "unknown output 'token_embedding': this graph gives last_hidden_state",
        ),
        ([3], "unknown output 3"),
    ],
)
def test_wrong_names_are_refused(requested: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_outputs(requested, SPECS, {})


def facts(*pooling: str) -> EmbeddingFacts:
    return EmbeddingFacts(
        pooling=pooling,
        include_prompt=True,
        modules=("Normalize",),
        size=2,
        dimensions=None,
        max_length=64,
        truncation=False,
        prompts={},
        default_prompt_name=None,
        similarity="cosine",
    )


def test_a_mean_of_the_first_token_alone_is_refused() -> None:
    flag = {"first_token_only": np.array(True)}
    with pytest.raises(InputError, match="sentence_embedding is of all tokens"):
        choose_outputs(["sentence_embedding"], SPECS, flag, facts("mean"))
    with pytest.raises(InputError, match="sentence_embedding is of all tokens"):
        choose_outputs(["sentence_embedding"], SPECS, flag, facts("cls", "max"))
    off = {"first_token_only": np.array(False)}
    assert choose_outputs(["sentence_embedding"], SPECS, off, facts("mean"))
    assert choose_outputs(["sentence_embedding"], SPECS, flag, facts("cls"))


LOGITS = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
MASKS = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
LENGTHS = [4, 3, 1]


def split(logits: np.ndarray, tokens: str, *, skips_tokens: bool) -> list[dict[str, np.ndarray]]:
    outputs = {"logits": logits, "order": np.arange(3.0)}
    samples = list(
        split_rows(outputs, {"logits"}, LENGTHS, MASKS, tokens=tokens, skips_tokens=skips_tokens)
    )
    assert [sample["order"] for sample in samples] == [0, 1, 2]
    return samples


def test_padding_is_removed() -> None:
    samples = split(LOGITS, "all", skips_tokens=False)
    for row, length, sample in zip(LOGITS, LENGTHS, samples, strict=True):
        np.testing.assert_array_equal(sample["logits"], row[:length])


@pytest.mark.parametrize("skips_tokens", [True, False])
def test_the_first_token(skips_tokens: bool) -> None:
    logits = LOGITS[:, :1] if skips_tokens else LOGITS
    samples = split(logits, "first", skips_tokens=skips_tokens)
    for row, sample in zip(LOGITS, samples, strict=True):
        np.testing.assert_array_equal(sample["logits"], row[:1])


@pytest.mark.parametrize("skips_tokens", [True, False])
def test_each_text_keeps_its_mask_tokens(skips_tokens: bool) -> None:
    logits = LOGITS[MASKS][:, None] if skips_tokens else LOGITS
    samples = split(logits, "masks", skips_tokens=skips_tokens)
    for row, masks, sample in zip(LOGITS, MASKS, samples, strict=True):
        np.testing.assert_array_equal(sample["logits"], row[masks])
    assert [sample["logits"].shape for sample in samples] == [(2, 2), (0, 2), (1, 2)]
