"""What a contender is: one way to serve a BERT checkpoint, in a file of the same few functions.

A file `contenders/<name>.py` has

    TITLE        what tables call it
    TASKS        which of `TASKS` below it can do
    PRECISION    "float32", "float16", "bfloat16" or "int8": the class of error that it is allowed
    PACKAGES     the distributions whose versions stand beside its times
    ENVIRONMENT  "bench" or "optimum": the environment that its worker runs in

    missing() -> str | None                      why it cannot run here, in one sentence
    prepare(model, task, folder) -> None         once and untimed: export, quantize, into `folder`
    load(model, task, folder, threads) -> Contender

Its top level imports nothing but the standard library, numpy and this folder's modules, since the
parent process reads the names above from it; libraries are imported where they are used.
"""

import importlib
from types import ModuleType
from typing import Protocol

import numpy as np

__all__ = ["BASELINES", "DEVICES", "NAMES", "REFERENCE", "TASKS", "Contender", "find", "names_on"]

TASKS = ("embeddings", "classification", "fill-mask")

# Whose answers prove everyone's: PyTorch in float32 on the CPU, wherever the others compute.
REFERENCE = "eager"
# What ratios are to on each device: eager PyTorch, in the precision that is usual there.
BASELINES = {"cpu": "eager", "cuda": "cuda_eager"}
DEVICES = tuple(BASELINES)

# In the order of the report. A new contender is a new file and a line here, or below for a GPU.
NAMES = (
    "eager",
    "sdpa",
    "torch_bfloat16",
    "torch_compile",
    "ort_plain",
    "ort_torchscript",
    "ort_optimizer",
    "ort_quantize_dynamic",
    "transformers_exporters",
    "openvino_float32",
    "openvino_bfloat16",
    "openvino_int8",
    "sentence_transformers",
    "optimum",
    "bertrt",
    "bertrt_int8",
)
GPU_NAMES = (
    "cuda_eager",
    "cuda_sdpa",
    "cuda_compile",
    "cuda_graphs",
    "cuda_unpadded",
    "cuda_sentence_transformers",
    "cuda_ort",
    "bertrt_cuda_ort",
    "bertrt_cuda",
    "bertrt_cuda_bfloat16",
)


class Contender(Protocol):
    """A loaded model, B texts in and B answers out.

    Answers are float32: for embeddings [B, H], mean-pooled and of length 1; for classification
    logits [B, 2]; for fill-mask logits over the vocabulary, [B, V], at each text's one [MASK].
    Whatever it takes to come to that form is inside the call, and so inside the time.

    One that treats shapes which vary in another way, such as a compiler, also has `run_varied`,
    with `run`'s arguments; one with a batcher for live streams `async live_answer(text)`: see
    `serving.live`.
    """

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """Answer a padded batch of token ids, int64 [B, S] each."""

    def answer(self, texts: list[str]) -> np.ndarray:
        """Answer texts as a user of that library would: its own tokenizer, its own batches."""


def names_on(device: str) -> tuple[str, ...]:
    """The contenders that compute on a device of `DEVICES`."""
    return NAMES if device == "cpu" else GPU_NAMES


def find(name: str) -> ModuleType:
    """The module of a contender on any device.

    Raises ValueError for any other name.
    """
    known = (*NAMES, *GPU_NAMES)
    if name not in known:
        raise ValueError(f"no contender is called {name!r}: choose from {', '.join(known)}")
    return importlib.import_module(f"contenders.{name}")
