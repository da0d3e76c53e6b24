"""What a run measures: the steps of `--quick`, of a full run, and of the user's own choice."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import models
from contender import DEVICES, TASKS, names_on
from workloads import cold_start, fixed, memory, mixed, ragged, stream

__all__ = ["LEFT_OUT_OF_QUICK", "WORKLOADS", "Step", "full", "quick"]

WORKLOADS: dict[str, ModuleType] = {
    module.NAME: module for module in (fixed, ragged, mixed, stream, cold_start, memory)
}
# What a run on each device measures, unless its user chooses: a GPU's mixed lengths are token ids.
_WORKLOADS = {
    "cpu": ("fixed", "mixed", "stream", "cold_start", "memory"),
    "cuda": ("fixed", "ragged"),
}
_MODELS = {"cpu": models.NAMES, "cuda": ("bert-base", "bert-large")}


@dataclass(frozen=True)
class Step:
    """One workload on one model, with the tasks and the contenders to measure in it."""

    workload: str
    model: str
    tasks: tuple[str, ...]
    contenders: tuple[str, ...]


# Half a minute of preparing for a few seconds of timing, or more.
_SLOW_TO_START = ("torch_compile", "openvino_int8", "optimum", "cuda_compile")

LEFT_OUT_OF_QUICK = {
    "cpu": (
        "left out of a quick run: torch.compile, OpenVINO int8 and Optimum; classification and "
        "fill-mask; BERT-base and BERT-large; the shapes 1x8, 1x512 and 32x128; the workloads "
        "mixed, stream, cold_start and memory. make bench has them."
    ),
    "cuda": (
        "left out of a quick run: torch.compile; BERT-large; the shapes 1x16, 32x128, 128x128 and "
        "1x512; mixed lengths. make bench-gpu has them."
    ),
}


def quick(device: str = "cpu") -> Iterator[Step]:
    """Nearly everyone's embeddings on a small model; on BERT-base where the device is a GPU."""
    nearly_all = tuple(name for name in names_on(device) if name not in _SLOW_TO_START)
    yield Step("fixed", "minilm" if device == "cpu" else "bert-base", ("embeddings",), nearly_all)


def full(
    chosen_models: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    workloads: Sequence[str] | None = None,
    contenders: Sequence[str] | None = None,
    device: str = "cpu",
) -> Iterator[Step]:
    """Everything, or what of it was chosen.

    A larger model than BERT-base is measured at embeddings, unless tasks are chosen, and so is
    every model on a GPU.

    Raises ValueError for a model, a task, a workload, a contender or a device that does not exist.
    """
    _check("device", [device], DEVICES)
    names = names_on(device)
    for name in chosen_models or ():
        models.check_name(name)
    _check("task", tasks, TASKS)
    _check("workload", workloads, WORKLOADS)
    _check(f"contender for {device}", contenders, names)
    for workload in workloads or _WORKLOADS[device]:
        for model in chosen_models or _MODELS[device]:
            large = model == "bert-large"
            if workload != "fixed" and large and not chosen_models and device == "cpu":
                continue
            default = ("embeddings",) if large or device == "cuda" else TASKS
            served = WORKLOADS[workload].TASKS
            chosen = tuple(task for task in tasks or default if task in served)
            if chosen:
                every: Sequence[str] = getattr(WORKLOADS[workload], "CONTENDERS", names)
                yield Step(workload, model, chosen, tuple(contenders or every))


def _check(kind: str, chosen: Sequence[str] | None, known: Iterable[str]) -> None:
    for name in chosen or ():
        if name not in known:
            raise ValueError(f"no {kind} is called {name!r}: choose from {', '.join(known)}")
