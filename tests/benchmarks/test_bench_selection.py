"""What a run measures: choices are kept, and the quick selection names contenders that exist."""

import pytest

import contender
import models
import selection


def test_quick_is_a_part_of_a_full_run() -> None:
    full = {(step.workload, step.model, task) for step in selection.full() for task in step.tasks}
    for step in selection.quick():
        assert {(step.workload, step.model, task) for task in step.tasks} <= full
        assert set(step.contenders) <= set(contender.NAMES)


def test_a_full_run_has_everything() -> None:
    steps = list(selection.full())
    assert {step.workload for step in steps} == set(selection.WORKLOADS)
    assert {step.model for step in steps} == set(models.NAMES)
    fixed = [step for step in steps if step.workload == "fixed"]
    assert all(step.contenders == contender.NAMES for step in fixed)


def test_choices_are_kept() -> None:
    (step,) = selection.full(["minilm"], ["fill-mask"], ["fixed"], ["eager", "bertrt"])
    assert step == selection.Step("fixed", "minilm", ("fill-mask",), ("eager", "bertrt"))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"chosen_models": ["bert-huge"]}, "'bert-huge' is none of minilm"),
        ({"tasks": ["ner"]}, "no task is called 'ner'"),
        ({"workloads": ["burst"]}, "no workload is called 'burst'"),
        ({"contenders": ["tensorflow"]}, "no contender is called 'tensorflow'"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(
    choice: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list(selection.full(**choice))
