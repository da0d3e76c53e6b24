"""Each head is judged by what its answer is: what stays counts, and what changes is not hidden."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertrt.export.heads import head_for
from bertrt.export.quantize.decisions import Agreement, agreements

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
N = 200


def rows(array: Any) -> list[np.ndarray]:
    """Return one text for each row."""
    return [row[None] for row in np.asarray(array, np.float32)]


def judge(
    task: str,
    ours: list[np.ndarray],
    theirs: list[np.ndarray],
    *,
    problem_type: str | None = None,
    labels: tuple[str, ...] = (),
    ranked: bool = False,
) -> dict[str, Agreement]:
    config: Any = SimpleNamespace(problem_type=problem_type, labels=labels)
    head = head_for(task, None)
    found = agreements({"logits": ours}, {"logits": theirs}, head, config, ranked=ranked)
    return {kind.what: kind for kind in found}


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1000.0])
def test_numbers_of_a_regression(width: int, scale: float) -> None:
    random = np.random.default_rng(1)
    exact = random.standard_normal((N, width)) * scale * 10.0 ** np.arange(width)
    spread = exact.std(axis=0)
    near = exact + 0.04 * spread * random.choice([-1, 1], exact.shape)
    far = np.where(np.arange(N)[:, None] % 10 < 4, near, exact + 0.2 * spread)
    for answer, share in ((near, 1.0), (far, 0.4)):
        (numbers,) = judge(
            "text-classification", rows(answer), rows(exact), problem_type="regression"
        ).values()
        assert numbers.what == "numbers"
        assert numbers.share == pytest.approx(share)
        assert numbers.count == N * width


def test_one_wrong_number_of_three_is_not_hidden_by_the_others() -> None:
    exact = np.random.default_rng(1).standard_normal((N, 3)) * [1000, 1000, 0.1]
    answer = exact + np.array([0, 0, 0.05])
    found = judge("text-classification", rows(answer), rows(exact), problem_type="regression")
    assert found["numbers"].share == 0


def test_one_number_is_a_regression_by_default() -> None:
    exact = np.arange(N)[:, None]
    for problem_type in (None, "single_label_classification"):
        found = judge(
            "text-classification", rows(exact + 30), rows(exact), problem_type=problem_type
        )
        assert found["numbers"].share == 0
    found = judge("text-classification", rows(exact), rows(exact - 0.001))
    assert found["numbers"].share == 1


def test_constant_numbers() -> None:
    exact = np.full((N, 1), 1000.0)
    found = judge("text-classification", rows(exact * (1 + 1e-7)), rows(exact))
    assert found["numbers"].share == 1
    found = judge("text-classification", rows(exact + 0.01), rows(exact))
    assert found["numbers"].share == 0
    zeros = np.zeros((N, 2))
    found = judge("text-classification", rows(zeros), rows(zeros), problem_type="regression")
    assert found["numbers"].share == 1


def test_each_label_of_a_multi_label_head_is_a_decision() -> None:
    exact = np.full((N, 4), 2.0)
    answer = exact.copy()
    answer[:10, 1] = -0.1  # 5 % of one label
    answer[:, 0] = 0.1  # the largest label is another, and every yes stays
    found = judge(
        "text-classification",
        rows(answer),
        rows(exact),
        problem_type="multi_label_classification",
    )
    assert found["labels"] == Agreement("labels", 0.95, 4 * N)
    assert found["labels found"].share == pytest.approx(2 * (4 * N - 10) / (8 * N - 10))


def test_every_yes_of_a_multi_label_head_becomes_no() -> None:
    """Most labels of most texts are no: 99.9 % of all decisions stay, and none that was found."""
    exact = np.full((20 * N, 28), -3.0)
    exact[np.arange(140) * 25, np.arange(140) % 28] = 1.0
    found = judge(
        "text-classification",
        rows(np.full((20 * N, 28), -3.0)),
        rows(exact),
        problem_type="multi_label_classification",
    )
    assert found["labels"].share == pytest.approx(1 - 5 / (20 * N))
    assert found["labels found"] == Agreement("labels found", 0.0, 140)


def test_among_few_labels_found_one_is_forgiven() -> None:
    exact = np.full((N, 3), -3.0)
    exact[:5, 0] = 0.1
    for lost, share in ((0, 1.0), (1, 1.0), (3, 1 - 1 / 7), (5, 1 - 3 / 5)):
        answer = exact.copy()
        answer[:lost, 0] = -0.1
        found = judge(
            "text-classification",
            rows(answer),
            rows(exact),
            problem_type="multi_label_classification",
        )
        assert found["labels found"] == Agreement("labels found", pytest.approx(share), 5)


def one_hot(labels: str, names: tuple[str, ...]) -> np.ndarray:
    ids = [names.index(name) for name in labels.split()]
    return np.eye(len(names), dtype=np.float32)[ids]


@pytest.mark.parametrize(
    ("theirs", "ours", "share"),
    [
        ("B-PER I-PER O B-LOC O", "B-PER I-PER O B-LOC O", 1.0),
        ("B-PER I-PER O B-LOC O", "B-PER I-PER O O O", 2 / 3),  # one is lost
        ("B-PER I-PER O O O", "B-PER I-PER O B-LOC O", 2 / 3),  # one is new
        ("B-PER I-PER O B-LOC O", "B-PER O O B-LOC O", 0.5),  # another end
        ("B-PER I-PER O B-LOC O", "B-PER I-PER O B-PER O", 0.5),  # another type
        ("B-PER B-PER O O O", "B-PER I-PER O O O", 0.0),  # two become one
        ("I-PER I-PER O O O", "B-PER I-PER O O O", 1.0),  # the user sees the same
        ("O O O O O", "O O O O O", 1.0),
    ],
)
def test_entities(theirs: str, ours: str, share: float) -> None:
    texts = [[one_hot(labels, BIO)] * N for labels in (ours, theirs)]
    found = judge("token-classification", *texts, labels=BIO)
    assert found["entities"].share == pytest.approx(share)


def test_lost_entities_in_texts_without_any() -> None:
    """Of all tokens 99.5 % stay, and no entity does."""
    empty = one_hot("O " * 200, BIO)
    other = empty.copy()
    other[7] = one_hot("B-LOC", BIO)[0]
    found = judge("token-classification", [empty] * N, [other] * N, labels=BIO)
    assert found["tokens"] == Agreement("tokens", 0.995, 200 * N)
    assert found["entities"] == Agreement("entities", 0.0, N)


def test_entities_of_labels_without_a_scheme() -> None:
    names = ("NOUN", "VERB", "DET")
    theirs = [one_hot("DET NOUN NOUN VERB", names), one_hot("", names)]
    ours = [one_hot("DET NOUN VERB VERB", names), one_hot("", names)]
    found = judge("token-classification", ours * N, theirs * N, labels=names)
    assert found["tokens"].share == 0.75
    assert found["entities"] == Agreement("entities", pytest.approx(1 / 3), 3 * N)


def questions(*spans: tuple[int, int], size: int = 30) -> dict[str, list[np.ndarray]]:
    """Return logits that are largest at a start and an end."""
    starts, ends = ([np.full((1, size), -5.0, np.float32) for _ in spans] for _ in range(2))
    for start, end, (first, last) in zip(starts, ends, spans, strict=True):
        start[0, first] = end[0, last] = 5.0
    return {"start_logits": starts, "end_logits": ends}


def spans(answers: dict[str, Any], reference: dict[str, Any]) -> Agreement:
    config: Any = SimpleNamespace(problem_type=None, labels=())
    (found,) = agreements(answers, reference, head_for("question-answering", None), config)
    return found


def test_answers_to_questions_are_spans() -> None:
    reference = questions((3, 5), (4, 4), (0, 0), (2, 9))
    assert spans(reference, reference) == Agreement("answers", 1.0, 4)
    # Half of the starts and, in other texts, half of the ends: no span is the same.
    other = questions((2, 5), (4, 6), (1, 1), (2, 8))
    assert spans(other, reference).share == 0


def test_spans_that_the_runtime_never_gives() -> None:
    """The largest start and end change where they are no legal span, and the answer stays."""
    reference, answers = questions((9, 3)), questions((20, 1))
    for logits in (reference, answers):
        logits["start_logits"][0][0, 6] = logits["end_logits"][0][0, 7] = 4.5
    assert spans(answers, reference).share == 1
    # An answer of more than 15 tokens is none.
    far, near = questions((2, 20)), questions((2, 17))
    for logits in (far, near):
        logits["end_logits"][0][0, 4] = 4.0
    assert spans(near, far).share == 1
    assert spans(questions((2, 16)), far).share == 0


def test_no_answer_is_one() -> None:
    """Which span of a context without an answer is best is chance."""
    reference, answers = questions((0, 0)), questions((0, 0))
    answers["start_logits"][0][0, 5] = reference["start_logits"][0][0, 9] = 0.0
    assert spans(answers, reference).share == 1
    answers["start_logits"][0][0, 5] = answers["end_logits"][0][0, 5] = 9.0
    assert spans(answers, reference).share == 0


@pytest.mark.parametrize("task", ["fill-mask", "text-generation", "next-sentence-prediction"])
def test_others_decide_by_the_largest(task: str) -> None:
    (found,) = judge(
        task, rows([[0.6, 0.5], [0.5, 0.4]]), rows([[1, 0], [0, 1]]), problem_type=None
    ).values()
    assert (found.share, found.count) == (0.5, 2)


def test_multiple_choice_decides_among_the_endings_of_a_question() -> None:
    theirs = rows([[1], [2], [3], [0], [5], [1]])
    ours = rows([[1], [2], [2.5], [0], [0], [1]])
    found = judge("multiple-choice", ours, theirs)
    assert found["choices"] == Agreement("choices", 0.5, 2)


def test_both_heads_of_pretraining_are_judged() -> None:
    config: Any = SimpleNamespace(problem_type=None, labels=())
    same, other = rows([[1, 0], [0, 1]]), rows([[1, 0], [1, 0]])
    found = agreements(
        {"prediction_logits": same, "seq_relationship_logits": other},
        {"prediction_logits": same, "seq_relationship_logits": same},
        head_for("pretraining", None),
        config,
    )
    assert [(kind.what, kind.share) for kind in found] == [
        ("masked tokens", 1.0),
        ("next sentences", 0.5),
    ]


def rank(ours: Any, theirs: Any) -> dict[str, Agreement]:
    """Judge lists of scores."""
    return judge("text-classification", rows(ours), rows(theirs), ranked=True)


def tau_b(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return Kendall's tau-b by its definition."""
    concordant = discordant = tied_here = tied_there = 0
    for i in range(len(ours)):
        for j in range(i):
            here, there = ours[i] - ours[j], theirs[i] - theirs[j]
            concordant += here * there > 0
            discordant += here * there < 0
            tied_here += here == 0 and there != 0
            tied_there += there == 0 and here != 0
    decided = concordant + discordant
    both = ((decided + tied_here) * (decided + tied_there)) ** 0.5
    return float((concordant - discordant) / both)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1000.0])
def test_orders_are_kendalls_tau(noise: float, scale: float) -> None:
    random = np.random.default_rng(3)
    exact = np.float32(scale * random.standard_normal((20, 13)))
    answer = exact + np.float32(noise * scale * random.standard_normal(exact.shape))
    found = rank(answer, exact)
    assert list(found) == ["orders of two passages", "scores"]
    tau = np.mean([tau_b(*pair) for pair in zip(answer, exact, strict=True)])
    orders = found["orders of two passages"]
    assert 2 * orders.share - 1 == pytest.approx(tau, abs=1e-9)
    assert orders.count == 20 * 13 * 12 / 2
    assert (orders.share == 1) is (noise == 0)


def test_lists_of_different_lengths_weigh_the_same() -> None:
    theirs = [np.float32([[1, 2]]), np.float32([np.arange(30)])]
    ours = [np.float32([[2, 1]]), theirs[1]]
    found = judge("text-classification", ours, theirs, ranked=True)["orders of two passages"]
    assert (found.share, found.count) == (0.5, 1 + 435)


def test_ties_of_float32_have_no_order() -> None:
    exact = [[1.0, 1.0, 5.0], [700.0, np.nextafter(np.float32(700), 0), 5.0]]
    answer = [[0.9, 1.1, 5.0], [700.0, 701.0, 5.0]]
    orders = rank(answer, exact)["orders of two passages"]
    assert (orders.share, orders.count) == (1.0, 4)
    # Two that int8 alone makes equal are half wrong: tau-b would be 0.8165.
    orders = rank([[1.0, 1.0, 5.0]], [[0.0, 1.0, 5.0]])["orders of two passages"]
    assert orders.share == pytest.approx(5 / 6)
    # A difference that float32 tells apart is an order, however small beside the others.
    orders = rank([[1.0, 1.001, 900.0]], [[1.001, 1.0, 900.0]])["orders of two passages"]
    assert orders.share == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_equal_scores_have_no_order(value: float) -> None:
    exact = np.full((4, 5), value)
    found = rank(exact, exact)
    assert found["orders of two passages"] == Agreement("orders of two passages", 1.0, 0)
    assert found["scores"] == Agreement("scores", 1.0, 20)


def test_scores_that_move_without_a_change_of_order() -> None:
    exact = np.random.default_rng(2).standard_normal((6, 15))
    found = rank(exact + 0.2, exact)
    assert found["orders of two passages"].share == 1
    assert found["scores"] == Agreement("scores", 0.0, 90)
