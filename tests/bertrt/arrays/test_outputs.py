"""Outputs: which are fetched, and which part of a batch's is each text's own."""

from typing import Any

import numpy as np
import pytest

from bertrt.arrays.outputs import choose_outputs, split_rows
from bertrt.artifact.manifest import TensorSpec
from bertrt.errors import InputError

SPECS = (
    TensorSpec("last_hidden_state", "float32", ("batch", "sequence", 2)),
    TensorSpec("pooler_output", "float32", ("batch", 2)),
    TensorSpec("mean_embedding", "float32", ("batch", 2), optional=True),
)


def test_transformers_outputs_are_the_default() -> None:
    assert choose_outputs(None, SPECS, {}) == ["last_hidden_state", "pooler_output"]


def test_chosen_outputs_come_once_and_in_order() -> None:
    wanted = ["mean_embedding", "pooler_output", "mean_embedding"]
    assert choose_outputs(wanted, SPECS, {}) == ["mean_embedding", "pooler_output"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("mean_embedding", "outputs is 'mean_embedding': give a list of last_hidden_state, pooler"),
        ([], r"outputs is \[\]"),
        ({"mean_embedding"}, "outputs is {'mean_embedding'}"),
        (["max_embedding"], "unknown output 'max_embedding': this graph gives last_hidden_state"),
        ([3], "unknown output 3"),
    ],
)
def test_refuses(wanted: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_outputs(wanted, SPECS, {})


def test_a_mean_of_one_token_is_refused() -> None:
    flag = {"first_token_only": np.array(True)}
    with pytest.raises(InputError, match="mean_embedding is of all tokens"):
        choose_outputs(["mean_embedding"], SPECS, flag)
    assert choose_outputs(["mean_embedding"], SPECS, {"first_token_only": np.array(False)})


LOGITS = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
MASKS = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
LENGTHS = [4, 3, 1]


def rows(logits: np.ndarray, tokens: str, *, skips_tokens: bool) -> list[dict[str, np.ndarray]]:
    outputs = {"logits": logits, "order": np.arange(3.0)}
    found = list(
        split_rows(outputs, {"logits"}, LENGTHS, MASKS, tokens=tokens, skips_tokens=skips_tokens)
    )
    assert [row["order"] for row in found] == [0, 1, 2]
    return found


def test_padding_is_cut() -> None:
    found = rows(LOGITS, "all", skips_tokens=False)
    for row, length, one in zip(LOGITS, LENGTHS, found, strict=True):
        np.testing.assert_array_equal(one["logits"], row[:length])


@pytest.mark.parametrize("skips_tokens", [True, False])
def test_the_first_token(skips_tokens: bool) -> None:
    given = LOGITS[:, :1] if skips_tokens else LOGITS
    for row, found in zip(LOGITS, rows(given, "first", skips_tokens=skips_tokens), strict=True):
        np.testing.assert_array_equal(found["logits"], row[:1])


@pytest.mark.parametrize("skips_tokens", [True, False])
def test_each_text_has_its_own_masks(skips_tokens: bool) -> None:
    given = LOGITS[MASKS][:, None] if skips_tokens else LOGITS
    found = rows(given, "masks", skips_tokens=skips_tokens)
    for row, masks, one in zip(LOGITS, MASKS, found, strict=True):
        np.testing.assert_array_equal(one["logits"], row[masks])
    assert [one["logits"].shape for one in found] == [(2, 2), (0, 2), (1, 2)]
