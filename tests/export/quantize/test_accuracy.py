"""Cosine, agreement and distance of small answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from bertrt.export.heads import head_for
from bertrt.export.quantize.accuracy import answers_of, compare
from bertrt.export.quantize.text_batches import TextBatch

PLAIN = SimpleNamespace(problem_type=None)


def vectors(*rows: list[float]) -> dict[str, list[np.ndarray]]:
    return {"logits": [np.array([row], np.float32) for row in rows]}


def test_agreement_is_the_share_of_equal_decisions() -> None:
    head = head_for("text-classification", None)
    reference = vectors([1, 0], [0, 1], [2, 1], [0, 3])
    answers = vectors([0.6, 0.5], [0.5, 0.4], [3, 1], [0, 2])
    found = compare(answers, reference, head, PLAIN)  # type: ignore[arg-type]
    assert found.agreement == 0.75
    assert found.cosine == pytest.approx(0.4 / np.hypot(0.5, 0.4))
    assert found.answers == 4


def test_agreement_is_that_of_the_weakest_kind() -> None:
    head = head_for("pretraining", None)
    same = vectors([1, 0], [0, 1])["logits"]
    other = vectors([1, 0], [1, 0])["logits"]
    found = compare(
        {"prediction_logits": same, "seq_relationship_logits": other},
        {"prediction_logits": same, "seq_relationship_logits": same},
        head,
        PLAIN,  # type: ignore[arg-type]
    )
    assert found.agreement == 0.5
    assert found.weakest
    assert found.weakest.what == "next sentences"


def test_embeddings_have_no_decisions() -> None:
    head = head_for("feature-extraction", None)
    found = compare(vectors([0.9, 0.1]), vectors([0.1, 0.9]), head, PLAIN)  # type: ignore[arg-type]
    assert found.agreement == 1
    assert found.cosine < 0.5


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_not_finite_meet_no_bound(task: str, bad: float) -> None:
    reference = vectors([1, 0], [0, 1])
    found = compare(vectors([1, 0], [bad, 1]), reference, head_for(task, None), PLAIN)  # type: ignore[arg-type]
    assert found.cosine == -1
    assert found.agreement == 0


def test_answers_are_in_the_order_of_the_texts() -> None:
    head = head_for("fill-mask", None)
    ids = np.array([[2, 4, 4, 3], [2, 4, 3, 0]])
    inputs = {"input_ids": ids, "masked_only": np.array(True)}
    batch = TextBatch(inputs, texts=(1, 0), scored=ids == 4)
    rows = np.arange(3, dtype=np.float32).reshape(3, 1, 1) * np.ones((1, 1, 5), np.float32)
    found = answers_of(lambda inputs, names: {"logits": rows}, [batch], head)
    assert [text[:, 0].tolist() for text in found["logits"]] == [[2], [0, 1]]


def test_answers_of_tokens_and_of_questions() -> None:
    mask = np.array([[False, True, True], [True, False, False], [False, False, False]])
    batch = TextBatch({"input_ids": np.zeros((3, 3), np.int64)}, texts=(2, 0, 1), scored=mask)
    logits = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    found = answers_of(
        lambda inputs, names: {"logits": logits}, [batch], head_for("token-classification", None)
    )
    assert [text.tolist() for text in found["logits"]] == [[[6, 7]], [], [[2, 3], [4, 5]]]
    starts = np.arange(9, dtype=np.float32).reshape(3, 3)
    found = answers_of(
        lambda inputs, names: {"start_logits": starts, "end_logits": starts},
        [batch],
        head_for("question-answering", None),
    )
    assert [text.tolist() for text in found["end_logits"]] == [[[3]], [[]], [[1, 2]]]


def test_the_answers_of_a_reranker_are_its_lists() -> None:
    head = head_for("text-classification", None)
    reference = vectors([1], [2], [3], [-1e-9], [5])
    answers = vectors([1], [2], [3], [1e-9], [5])
    # Each score by itself has a cosine of 1 or -1 only.
    assert compare(answers, reference, head, PLAIN).cosine == -1  # type: ignore[arg-type]
    found = compare(answers, reference, head, PLAIN, (3, 2))  # type: ignore[arg-type]
    assert found.cosine == pytest.approx(1)
    assert (found.answers, found.agreement) == (2, 1)
    swapped = vectors([1], [2], [3], [5], [0])
    found = compare(swapped, reference, head, PLAIN, (3, 2))  # type: ignore[arg-type]
    assert found.weakest
    assert (found.weakest.what, found.agreement) == ("orders of two passages", 0.5)


def test_no_order_holds_between_answers_that_are_not_finite() -> None:
    head = head_for("text-classification", None)
    found = compare(vectors([np.nan], [1]), vectors([0], [1]), head, PLAIN, (2,))  # type: ignore[arg-type]
    assert found.agreement == 0
