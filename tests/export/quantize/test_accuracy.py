"""Cosine, agreement and distance of small answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from bertrt.export.heads import head_for
from bertrt.export.quantize.accuracy import answers_of, compare
from bertrt.export.quantize.text_batches import TextBatch

PLAIN = SimpleNamespace(problem_type=None)


def vectors(*rows: list[float]) -> dict[str, list[np.ndarray]]:
    return {"logits": [np.array(row, np.float32) for row in rows]}


def test_agreement_is_the_share_of_equal_decisions() -> None:
    head = head_for("text-classification", None)
    reference = vectors([1, 0], [0, 1], [2, 1], [0, 3])
    answers = vectors([0.6, 0.5], [0.5, 0.4], [3, 1], [0, 2])
    found = compare(answers, reference, head, PLAIN)  # type: ignore[arg-type]
    assert found.agreement == 0.75
    assert found.cosine == pytest.approx(0.4 / np.hypot(0.5, 0.4))
    assert found.answers == 4


def test_agreement_is_that_of_the_worst_output() -> None:
    head = head_for("question-answering", None)
    same = vectors([1, 0], [0, 1])["logits"]
    other = vectors([1, 0], [1, 0])["logits"]
    found = compare(
        {"start_logits": same, "end_logits": other},
        {"start_logits": same, "end_logits": same},
        head,
        PLAIN,  # type: ignore[arg-type]
    )
    assert found.agreement == 0.5


def test_multiple_labels_agree_if_each_does() -> None:
    head = head_for("text-classification", None)
    config = SimpleNamespace(problem_type="multi_label_classification")
    found = compare(vectors([2, 1], [1, -1]), vectors([1, 2], [1, 1]), head, config)  # type: ignore[arg-type]
    assert found.agreement == 0.5


def test_a_single_number_agrees_if_it_is_close() -> None:
    head = head_for("text-classification", None)
    reference = vectors([0.0], [1.0], [2.0], [3.0])
    found = compare(vectors([0.01], [1.2], [2.0], [3.0]), reference, head, PLAIN)  # type: ignore[arg-type]
    assert found.agreement == 0.75


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
    assert [vector[0] for vector in found["logits"]] == [2, 0, 1]
