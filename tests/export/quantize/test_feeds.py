"""Which texts and pairs an int8 graph is calibrated and judged on, and what is asked of each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.artifact.directory import Artifact
from bertrt.export.heads import head_for
from bertrt.export.quantize.text_feeds import feeds_of

TEXTS = ["john smith works", "in london", "the cat sat on the mat", "a", "the dog ran", "who", "is"]
N = len(TEXTS)
ALONE = [(text, None) for text in TEXTS]
PAIRS = [(text, TEXTS[(i + 1) % N]) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("BertModel", [*ALONE, PAIRS[1], PAIRS[5]]),
        ("BertForSequenceClassification", [*ALONE, PAIRS[1], PAIRS[5]]),
        ("BertForNextSentencePrediction", [(PAIRS if i % 2 else ALONE)[i] for i in range(N)]),
    ],
)
def test_every_text_alone_and_some_in_pairs(
    make_artifact: Callable[..., Path], class_name: str, expected: Any, together: bool
) -> None:
    batches, runtime = made(make_artifact(class_name), together=together)
    found: dict[int, list[int]] = {}
    for batch in batches:
        mask = batch.feeds["attention_mask"].astype(bool)
        assert (batch.asked == mask).all()
        for index, ids, row in zip(batch.texts, batch.feeds["input_ids"], mask, strict=True):
            found[index] = ids[row].tolist()
    theirs = [runtime.encode(*one)["input_ids"][0].tolist() for one in expected]
    assert [found[index] for index in range(len(expected))] == theirs
    assert len(found) == len(expected)
    assert len(batches) == (1 if together else len(expected))


def test_a_few_ordinary_tokens_are_masked(make_artifact: Callable[..., Path]) -> None:
    batches, runtime = made(make_artifact("BertForMaskedLM"))
    plain, _ = made(make_artifact("BertModel"))
    special = [runtime.tokenizer.facts.special_ids[one] for one in ("cls", "sep", "pad")]
    for batch, whole in zip(batches, plain, strict=True):
        ids, before = batch.feeds["input_ids"], whole.feeds["input_ids"]
        np.testing.assert_array_equal(batch.asked, ids == runtime.tokenizer.mask_id)
        np.testing.assert_array_equal(batch.asked, ids != before)
        assert not np.isin(before[batch.asked], special).any()
        ordinary = (~np.isin(before, special)).sum(axis=1)
        np.testing.assert_array_equal(batch.asked.sum(axis=1), np.minimum(ordinary, 2))


def made(path: Path, *, together: bool = True) -> tuple[list[Any], bertrt.Runtime]:
    """The batches of `TEXTS`, and a runtime that encodes."""
    artifact = Artifact.open(path)
    runtime = bertrt.load(path, threads=1)
    head = head_for(runtime.info["task"], None)
    inputs = artifact.manifest.graph.inputs
    batches = feeds_of(TEXTS, head, runtime.tokenizer, artifact.config, inputs, together=together)
    return batches, runtime
