"""What a run measures: the steps of `--quick`, of a full run, and of the user's own choice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import models
from contender import NAMES, TASKS
from workloads import cold_start, fixed, memory, mixed, stream

__all__ = ["LEFT_OUT_OF_QUICK", "WORKLOADS", "Step", "full", "quick"]

WORKLOADS: dict[str, ModuleType] = {
    module.NAME: module for module in (fixed, mixed, stream, cold_start, memory)
}


@dataclass(frozen=True)
class Step:
    """One workload on one model, with the tasks and the contenders to measure in it."""

    workload: str
    model: str
    tasks: tuple[str, ...]
    contenders: tuple[str, ...]


# Half a minute of preparing for a few seconds of timing, or more.
_SLOW_TO_START = ("torch_compile", "openvino_int8", "optimum")

LEFT_OUT_OF_QUICK = (
    "left out of a quick run: torch.compile, OpenVINO int8 and Optimum; classification and "
    "fill-mask; BERT-base and BERT-large; the shapes 1x8, 1x512 and 32x128; the workloads mixed, "
    "stream, cold_start and memory. make bench has them."
)


def quick() -> Iterator[Step]:
    """Nearly everyone's embeddings on a small model."""
    nearly_all = tuple(name for name in NAMES if name not in _SLOW_TO_START)
    yield Step("fixed", "minilm", ("embeddings",), nearly_all)


def full(
    chosen_models: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    workloads: Sequence[str] | None = None,
    contenders: Sequence[str] | None = None,
) -> Iterator[Step]:
    """Everything, or what of it was chosen.

    A larger model than BERT-base is measured at embeddings, unless tasks are chosen.

    Raises ValueError for a model, a task, a workload or a contender that does not exist.
    """
    for name in chosen_models or ():
        models.check_name(name)
    _check("task", tasks, TASKS)
    _check("workload", workloads, WORKLOADS)
    _check("contender", contenders, NAMES)
    for workload in workloads or WORKLOADS:
        for model in chosen_models or models.NAMES:
            if workload != "fixed" and model == "bert-large" and not chosen_models:
                continue
            default = ("embeddings",) if model == "bert-large" else TASKS
            served = WORKLOADS[workload].TASKS
            chosen = tuple(task for task in tasks or default if task in served)
            if chosen:
                every: Sequence[str] = getattr(WORKLOADS[workload], "CONTENDERS", NAMES)
                yield Step(workload, model, chosen, tuple(contenders or every))


def _check(
    kind: str, chosen: Sequence[str] | None, known: Sequence[str] | dict[str, ModuleType]
) -> None:
    for name in chosen or ():
        if name not in known:
            raise ValueError(f"no {kind} is called {name!r}: choose from {', '.join(known)}")
