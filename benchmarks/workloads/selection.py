"""What a run measures: the steps of `--quick`, of a full run, and of the user's choice."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

from benchmarks.contenders.registry import DEVICES, JOBS, RERANKERS, SERVERS, TEXTS, names_on
from benchmarks.data.models import ALL_TASKS, NAMES, TASKS, check_name
from benchmarks.workloads import (
    cold_start,
    corpus,
    fixed,
    http,
    http_all_cpus,
    http_limits,
    http_limits_all_cpus,
    http_ray,
    live,
    memory,
    mixed,
    ragged,
    rerank,
    texts,
)

__all__ = [
    "LEFT_OUT_OF_QUICK",
    "LEFT_OUT_OF_SHORT",
    "WORKLOADS",
    "Step",
    "full",
    "quick",
    "short",
]

WORKLOADS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        fixed,
        ragged,
        mixed,
        texts,
        rerank,
        live,
        http,
        http_all_cpus,
        http_limits,
        http_limits_all_cpus,
        http_ray,
        corpus,
        cold_start,
        memory,
    )
}
# The workloads of a full run on each device. On a GPU, mixed lengths are measured on token ids.
_WORKLOADS = {
    "cpu": tuple(name for name in WORKLOADS if name != "ragged"),
    "cuda": ("fixed", "ragged"),
}
# These measure texts, so the contenders that take nothing else have a part in them.
_OF_TEXTS = ("mixed",)
_MODELS = {"cpu": NAMES, "cuda": ("bert-base", "bert-large")}


@dataclass(frozen=True)
class Step:
    """One workload on one model, with the tasks and the contenders to measure."""

    workload: str
    model: str
    tasks: tuple[str, ...]
    contenders: tuple[str, ...]


# These take half a minute or more to prepare, for a few seconds of measurement.
_SLOW_TO_START = ("torch_compile", "openvino_int8", "optimum", "cuda_compile")

LEFT_OUT_OF_QUICK = {
    "cpu": (
        "A quick run leaves out torch.compile, OpenVINO int8 and Optimum; classification and "
        "fill-mask; BERT-base and BERT-large; the shapes 1x8, 1x512 and 32x128; and the workloads "
        "mixed, texts, rerank, live, http, http_limits (both also on all CPUs), http_ray, corpus, "
        "cold_start and memory. To measure them, run make bench."
    ),
    "cuda": (
        "A quick run leaves out torch.compile; BERT-large; the shapes 1x16, 32x128, 128x128 and "
        "1x512; and mixed lengths. To measure them, run make bench-gpu."
    ),
}
# PyTorch's fastest forms that begin within seconds, the baseline, and bertrt.
_SHORT = (
    "cuda_eager",
    "cuda_sdpa",
    "cuda_cudnn",
    "cuda_graphs",
    "cuda_unpadded",
    "bertrt_cuda",
)
LEFT_OUT_OF_SHORT = (
    "A short run leaves out torch.compile, sentence-transformers, ONNX Runtime and bfloat16, and "
    "BERT-large, and takes few turns. To measure them, run make bench-gpu."
)


def quick(device: str = "cpu") -> Iterator[Step]:
    """Yield the step of a quick run: embeddings, with most contenders, on one model.

    The model is MiniLM on a CPU and BERT-base on a GPU.
    """
    fast_to_start = tuple(name for name in names_on(device) if name not in _SLOW_TO_START)
    model = "minilm" if device == "cpu" else "bert-base"
    yield Step("fixed", model, ("embeddings",), fast_to_start)


def short(device: str) -> Iterator[Step]:
    """Yield the steps of a short run on a GPU: embeddings of BERT-base, with few contenders.

    Raises ValueError for another device.
    """
    if device != "cuda":
        raise ValueError(f"a short run is for a GPU, not for {device!r}: use --device cuda")
    for workload in _WORKLOADS[device]:
        yield Step(workload, "bert-base", ("embeddings",), _SHORT)


def full(
    models: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    workloads: Sequence[str] | None = None,
    contenders: Sequence[str] | None = None,
    device: str = "cpu",
) -> Iterator[Step]:
    """Yield the steps of a full run, or those that were chosen.

    Unless tasks are chosen, only embeddings are measured for models larger than BERT-base and for
    every model on a GPU, and a workload of one task is measured with that one.

    Raises ValueError for a model, task, workload, contender or device that does not exist.
    """
    _check("device", [device], DEVICES)
    names = names_on(device)
    known = (*names, *TEXTS, *RERANKERS, *SERVERS, *JOBS) if device == "cpu" else names
    for name in models or ():
        check_name(name)
    _check("task", tasks, ALL_TASKS)
    _check("workload", workloads, WORKLOADS)
    _check(f"contender for {device}", contenders, known)
    for workload in workloads or _WORKLOADS[device]:
        for model in models or getattr(WORKLOADS[workload], "MODELS", _MODELS[device]):
            large = model == "bert-large"
            if workload != "fixed" and large and not models and device == "cpu":
                continue
            default = ("embeddings",) if large or device == "cuda" else TASKS
            supported = WORKLOADS[workload].TASKS
            if len(supported) == 1:
                default = supported
            chosen = tuple(task for task in tasks or default if task in supported)
            if chosen:
                every: Sequence[str] = getattr(WORKLOADS[workload], "CONTENDERS", names)
                if workload in _OF_TEXTS and device == "cpu":
                    every = (*every, *TEXTS)
                yield Step(workload, model, chosen, tuple(contenders or every))


def _check(kind: str, chosen: Sequence[str] | None, known: Iterable[str]) -> None:
    for name in chosen or ():
        if name not in known:
            raise ValueError(f"no {kind} is called {name!r}: choose from {', '.join(known)}")
