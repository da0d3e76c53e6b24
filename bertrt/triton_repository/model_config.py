"""The parts of a Triton model's configuration that the kinds of repositories share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.text_tensors import TensorType
from bertrt.triton_repository.text_format import Message, Word, write_message

__all__ = ["Interface", "Settings", "batched", "instances", "parameters", "write_config"]

_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}
_SECONDS = 30


@dataclass(frozen=True)
class Settings:
    """How a model is served.

    Attributes:
        name: the model's name.
        max_batch: the most texts of a request, and of the requests that run together.
        queue: the most requests that may wait.
        threads: the number of threads, or "auto".
        truncation: whether a text that is too long is cut, rather than an error.
        op_library: where the server finds the operators of a graph that takes text.
    """

    name: str
    max_batch: int = 64
    queue: int = 1024
    threads: int | str = "auto"
    truncation: bool = True
    op_library: str = "/opt/ortext/libortextensions.so"


@dataclass(frozen=True)
class Interface:
    """What a model takes and gives; the first axis of each tensor is the batch.

    Attributes:
        inputs, outputs: the tensors.
        optional: the names of inputs that a request may leave out.
    """

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    optional: frozenset[str] = frozenset()

    def fields(self) -> Message:
        """Return the fields of a model's configuration.

        Triton has no tensor of the batch axis alone, so that one has a second axis of size 1.
        """
        return {
            "input": [
                {**_describe(one), **({"optional": True} if one.name in self.optional else {})}
                for one in self.inputs
            ],
            "output": [_describe(one) for one in self.outputs],
        }


def batched(settings: Settings) -> Message:
    """Return the fields of a model that merges waiting requests, and refuses those beyond a limit.

    No request waits for others: what has come while the model ran is what runs next.
    """
    return {
        "max_batch_size": settings.max_batch,
        "dynamic_batching": {
            "max_queue_delay_microseconds": 0,
            "default_queue_policy": {
                "max_queue_size": settings.queue,
                "timeout_action": Word("REJECT"),
                "default_timeout_microseconds": _SECONDS * 1_000_000,
                "allow_timeout_override": True,
            },
        },
    }


def instances(artifact: Artifact, *, one_gpu: bool = False) -> Message:
    """Return the field for one instance; `one_gpu` for one that uses only the first GPU.

    Without it Triton makes two instances on the CPU, and each would take all threads.
    """
    on_gpu = artifact.manifest.target["device"] == "cuda"
    group: dict[str, Word | int | list[int]] = {
        "kind": Word("KIND_GPU" if on_gpu else "KIND_CPU"),
        "count": 1,
    }
    if on_gpu and one_gpu:
        group["gpus"] = [0]
    return {"instance_group": [group]}


def parameters(values: Mapping[str, str]) -> Message:
    """Return the field of a backend's parameters."""
    return {
        "parameters": [
            {"key": key, "value": {"string_value": value}} for key, value in values.items()
        ]
    }


def write_config(folder: Path, config: Message) -> None:
    """Write a model's config.pbtxt."""
    (folder / "config.pbtxt").write_text(write_message(config), encoding="utf-8")


def _describe(tensor: TensorType) -> Message:
    return {
        "name": tensor.name,
        "data_type": Word(_TYPES[tensor.datatype]),
        "dims": list(tensor.shape[1:]) or [1],
    }
