"""From a checkpoint to an artifact: the steps of an export, in order."""

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir

from bertrt._version import __version__
from bertrt.artifact import (
    MANIFEST,
    SCHEMA,
    FileEntry,
    Graph,
    Manifest,
    TensorSpec,
    sha256_of,
)
from bertrt.errors import ExportError
from bertrt.export.checkpoints import open_checkpoint
from bertrt.export.fusion.pipeline import SESSION_LEVEL, fuse
from bertrt.export.generation import eos_token_id
from bertrt.export.heads import ALIASES, head_for
from bertrt.export.model import build_model
from bertrt.export.optional_types import make_token_types_optional
from bertrt.export.parity import check_parity
from bertrt.export.staging import check_output, staged
from bertrt.export.tokenizer import write_tokenizer
from bertrt.export.trace import has_cache, trace

__all__ = ["DEVICES", "export"]

DEVICES = tuple(SESSION_LEVEL)
STEPS = ("read the checkpoint", "trace", "fuse", "check parity", "write")
# The first ONNX Runtime whose CPU provider has opset 23's Attention.
LEAST_ONNXRUNTIME = "1.23.0"
# Protobuf cannot hold more in one file; above it the weights lie beside the graph.
_ONE_FILE = 2_000_000_000
_VERSIONS = ("torch", "transformers", "onnx", "onnxscript", "onnx_ir", "onnxruntime", "tokenizers")

Progress = Callable[[int, int, str], None]


def export(
    model: str | Path,
    output: str | Path,
    *,
    task: str | None = None,
    device: str = "cpu",
    revision: str | None = None,
    offline: bool = False,
    allow_new_head: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Export a BERT checkpoint to an artifact directory, proved to give the checkpoint's answers.

    Args:
        model: a hub id, a local folder, or "demo" for the embedded model.
        output: the directory to make.
        task: the head, by its Hugging Face task name; None takes the config's architecture.
        device: "cpu" for the graph that is fastest on ONNX Runtime's CPU provider, "any" for
            standard ONNX operators only.
        revision: a hub revision.
        offline: whether to use the hub's cache only.
        allow_new_head: whether a head that the checkpoint lacks may be a new, untrained one.
        overwrite: whether to replace an artifact that is at `output`.
        progress: called as each step begins, with its number from 1, their count, and its name.

    Returns the manifest that was written.

    Raises ExportError for a checkpoint or an output that cannot be used, and ParityError when the
    graph's answers are not the checkpoint's; in either case nothing is written.
    """
    tell = _steps(progress)
    output = Path(output)
    if device not in DEVICES:
        raise ExportError(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")
    check_output(output, overwrite=overwrite)

    tell()
    checkpoint = open_checkpoint(str(model), revision=revision, offline=offline)
    head = head_for(task, checkpoint.config.get("architectures"))
    module = build_model(head, checkpoint, allow_new_head=allow_new_head)
    if head.task == "text-generation":
        module.config.eos_token_id = eos_token_id(checkpoint)

    tell()
    graph = trace(module, head)

    tell()
    fused = fuse(graph, module.config, head, device)
    if has_cache(module, head):
        make_token_types_optional(graph)

    with staged(output, overwrite=overwrite) as stage:
        tell()
        files = _save(graph, stage)
        level = SESSION_LEVEL[device]
        parity = check_parity(module, head, stage / files[0], session_level=level)

        tell()
        tokenizer = write_tokenizer(checkpoint, stage)
        module.config.save_pretrained(stage)
        manifest = Manifest(
            schema=SCHEMA,
            task=task if task in ALIASES else head.task,
            architecture=head.class_name,
            target={"device": device, "engine": "ort", "dtype": "float32"},
            source=asdict(checkpoint.source),
            graph=_describe(graph, files[0], level, fused),
            tokenizer=tokenizer,
            parity=asdict(parity),
            files=tuple(
                FileEntry(path.name, path.stat().st_size, sha256_of(path))
                for path in sorted(stage.iterdir())
            ),
            versions=_versions(),
        )
        (stage / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _steps(progress: Progress | None) -> Callable[[], None]:
    """A function that announces the next step."""
    names = iter(enumerate(STEPS, start=1))

    def tell() -> None:
        number, name = next(names)
        if progress is not None:
            progress(number, len(STEPS), name)

    return tell


def _save(graph: ir.Model, directory: Path) -> list[str]:
    """Write the graph, with its weights beside it when one file cannot hold them."""
    size = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    external = "model.onnx.data" if size > _ONE_FILE else None
    ir.save(graph, directory / "model.onnx", external_data=external)
    return ["model.onnx"] if external is None else ["model.onnx", external]


def _describe(graph: ir.Model, file: str, level: str, fused: dict[str, int]) -> Graph:
    return Graph(
        file=file,
        opset=graph.opset_imports[""],
        least_onnxruntime=LEAST_ONNXRUNTIME,
        session_level=level,
        inputs=tuple(_spec(value) for value in graph.graph.inputs),
        outputs=tuple(_spec(value) for value in graph.graph.outputs),
        fused=fused,
    )


def _spec(value: Any) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else str(d.value) for d in value.shape)
    return TensorSpec(value.name, str(value.dtype.numpy()), shape)


def _versions() -> dict[str, str]:
    found = {"bertrt": __version__, "python": platform.python_version()}
    for name in _VERSIONS:
        found[name] = importlib.metadata.version(name)
    return found
