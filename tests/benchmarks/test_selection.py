"""The selection: choices are respected, and a quick run is part of a full run."""

from typing import Any

import pytest

from benchmarks.contenders import registry
from benchmarks.data.models import NAMES
from benchmarks.workloads import selection


@pytest.mark.parametrize("device", registry.DEVICES)
def test_a_quick_run_is_part_of_a_full_run(device: str) -> None:
    steps = list(selection.full(device=device))
    full = {(step.workload, step.model, task) for step in steps for task in step.tasks}
    for step in selection.quick(device):
        assert {(step.workload, step.model, task) for task in step.tasks} <= full
        assert set(step.contenders) <= set(registry.names_on(device))
        assert registry.BASELINES[device] in step.contenders


def test_a_full_run_has_everything() -> None:
    steps = list(selection.full())
    assert {step.workload for step in steps} == {*selection.WORKLOADS} - {"ragged"}
    assert {step.model for step in steps} == set(NAMES)
    fixed = [step for step in steps if step.workload == "fixed"]
    assert all(step.contenders == registry.names_on("cpu") for step in fixed)


def test_a_full_run_on_a_gpu_has_every_contender_there() -> None:
    steps = list(selection.full(device="cuda"))
    assert {step.workload for step in steps} == {"fixed", "ragged"}
    assert {step.model for step in steps} == {"bert-base", "bert-large"}
    assert all(step.contenders == registry.names_on("cuda") for step in steps)
    assert not set(registry.names_on("cuda")) & set(registry.names_on("cpu"))


def test_a_short_run_is_part_of_a_full_run_on_a_gpu() -> None:
    full = {(step.workload, step.model): step for step in selection.full(device="cuda")}
    steps = list(selection.short("cuda"))
    assert {step.workload for step in steps} == {"fixed", "ragged"}
    for step in steps:
        whole = full[step.workload, step.model]
        assert set(step.tasks) <= set(whole.tasks)
        assert set(step.contenders) <= set(whole.contenders)
        assert {registry.BASELINES["cuda"], "bertrt_cuda"} <= set(step.contenders)
        # Nothing that compiles for minutes.
        assert "cuda_compile" not in step.contenders
    with pytest.raises(ValueError, match="a short run is for a GPU, not for 'cpu'"):
        list(selection.short("cpu"))


def test_a_workload_of_one_task_is_measured_with_it() -> None:
    [step] = selection.full(workloads=["rerank"])
    rerank = selection.WORKLOADS["rerank"]
    assert step == selection.Step("rerank", "minilm", ("rerank",), rerank.CONTENDERS)
    assert {"sentence_transformers", "fastembed_rerank"} <= set(step.contenders)
    assert not list(selection.full(tasks=["rerank"], workloads=["fixed", "mixed"]))


def test_choices_are_respected() -> None:
    (step,) = selection.full(["minilm"], ["fill-mask"], ["fixed"], ["eager", "bertrt"])
    assert step == selection.Step("fixed", "minilm", ("fill-mask",), ("eager", "bertrt"))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"models": ["bert-huge"]}, "no model is called 'bert-huge'"),
        ({"tasks": ["ner"]}, "no task is called 'ner'"),
        ({"workloads": ["burst"]}, "no workload is called 'burst'"),
        ({"contenders": ["tensorflow"]}, "no contender for cpu is called 'tensorflow'"),
        ({"contenders": ["bertrt_cuda"]}, "no contender for cpu is called 'bertrt_cuda'"),
        ({"contenders": ["bertrt"], "device": "cuda"}, "no contender for cuda is called 'bertrt'"),
        ({"device": "tpu"}, "no device is called 'tpu': choose from cpu, cuda"),
    ],
)
def test_unknown_choices_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(selection.full(**choice))
