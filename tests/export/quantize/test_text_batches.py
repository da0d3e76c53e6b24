"""The texts and pairs on which int8 graphs are calibrated and judged, and the scored tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.artifact.directory import Artifact
from bertrt.export.heads import head_for
from bertrt.export.quantize.samples import rows_of
from bertrt.export.quantize.text_batches import make_batches

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
    batches, runtime = batches_of(make_artifact(class_name), together=together)
    found: dict[int, list[int]] = {}
    for batch in batches:
        mask = batch.inputs["attention_mask"].astype(bool)
        assert (batch.scored == mask).all()
        for index, ids, row in zip(batch.texts, batch.inputs["input_ids"], mask, strict=True):
            found[index] = ids[row].tolist()
    theirs = [runtime.tokenize(*texts)["input_ids"][0].tolist() for texts in expected]
    assert [found[index] for index in range(len(expected))] == theirs
    assert len(found) == len(expected)
    assert len(batches) == (1 if together else len(expected))


def test_a_few_ordinary_tokens_are_masked(make_artifact: Callable[..., Path]) -> None:
    batches, runtime = batches_of(make_artifact("BertForMaskedLM"))
    plain, _ = batches_of(make_artifact("BertModel"))
    special = [runtime.tokenizer.facts.special_ids[role] for role in ("cls", "sep", "pad")]
    for batch, whole in zip(batches, plain, strict=True):
        ids, before = batch.inputs["input_ids"], whole.inputs["input_ids"]
        np.testing.assert_array_equal(batch.scored, ids == runtime.tokenizer.mask_id)
        np.testing.assert_array_equal(batch.scored, ids != before)
        assert not np.isin(before[batch.scored], special).any()
        ordinary = (~np.isin(before, special)).sum(axis=1)
        np.testing.assert_array_equal(batch.scored.sum(axis=1), np.minimum(ordinary, 2))


def test_tokens_that_answers_consist_of(make_artifact: Callable[..., Path]) -> None:
    """[CLS] and the context of a question; all but the special tokens for labels of tokens."""
    for class_name in ("BertForQuestionAnswering", "BertForTokenClassification"):
        batches, runtime = batches_of(make_artifact(class_name))
        special = [runtime.tokenizer.facts.special_ids[role] for role in ("cls", "sep", "pad")]
        for batch in batches:
            ids, types = batch.inputs["input_ids"], batch.inputs["token_type_ids"]
            expected = ~np.isin(ids, special)
            if class_name == "BertForQuestionAnswering":
                assert types.any(axis=1).all()  # every question has a context
                expected = (types == 1) & (ids != special[1])
                expected[:, 0] = True
            np.testing.assert_array_equal(batch.scored, expected)


def batches_of(path: Path, *, together: bool = True) -> tuple[list[Any], bertrt.Runtime]:
    """Return the batches of `TEXTS`, and a runtime of the artifact."""
    artifact = Artifact.open(path)
    runtime = bertrt.load(path, threads=1)
    head = head_for(runtime.info["task"], None)
    inputs = artifact.manifest.graph.inputs
    tokenizer, config = runtime.tokenizer, artifact.config
    rows = rows_of(TEXTS, head)
    return make_batches(rows, head, tokenizer, config, inputs, together=together), runtime
