"""From a checkpoint to an artifact: the steps of an export, in order."""

import importlib.metadata
import platform
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
from bertrt.config import ModelConfig
from bertrt.export.checkpoints import open_checkpoint
from bertrt.export.dialect.pipeline import fuse_to_dialect
from bertrt.export.dialect.precision import to_precision
from bertrt.export.fusion.cuda import fuse_for_cuda
from bertrt.export.fusion.embeddings import EMBEDDINGS
from bertrt.export.fusion.half import to_float16
from bertrt.export.fusion.pipeline import fuse
from bertrt.export.generation import eos_token_id
from bertrt.export.half_parity import check_half
from bertrt.export.heads import ALIASES, Head, head_for
from bertrt.export.model import build_model
from bertrt.export.optional_types import make_token_types_optional
from bertrt.export.parity import check_parity
from bertrt.export.quantize.quantize import Subject, quantize
from bertrt.export.quantize.rewrite import finish_int8
from bertrt.export.quantize.wishes import check_wishes
from bertrt.export.rounding import HALVES
from bertrt.export.staging import check_output, staged
from bertrt.export.steps import Progress, Steps
from bertrt.export.targets import DEVICES, DTYPES, ENGINES, Target, choose_target
from bertrt.export.tokenizer import write_tokenizer
from bertrt.export.trace import has_cache, trace
from bertrt.tokenizer import Tokenizer

__all__ = ["DEVICES", "DTYPES", "ENGINES", "export"]

STEPS = ("read the checkpoint", "trace", "fuse", "check parity", "quantize", "write")
# Above this many bytes the weights lie beside the graph, where ONNX Runtime maps them into memory:
# it opens them twice as fast as a protobuf that holds them (which cannot hold 2 GB at all).
_ONE_FILE = 16_000_000
_VERSIONS = ("torch", "transformers", "onnx", "onnxscript", "onnx_ir", "onnxruntime", "tokenizers")


def export(
    model: str | Path,
    output: str | Path,
    *,
    task: str | None = None,
    device: str = "cpu",
    engine: str | None = None,
    dtype: str | None = None,
    calibration: str | Path | None = None,
    min_cosine: float | None = None,
    min_agreement: float | None = None,
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
            standard ONNX operators only, "cuda" for an NVIDIA GPU.
        engine: for cuda, "triton" (the default) for bertrt's own kernels, "ort" for ONNX Runtime's
            CUDA provider.
        dtype: "float32", the default but for cuda; "int8" for linear layers in int8 (device
            "cpu"), calibrated and searched for the fastest mixture whose answers stay near
            float32's; "float16", the default for cuda, or "bfloat16" (engine "triton").
        calibration: for int8, a file of texts, one a line, like those that will be asked; the
            built-in ones when None.
        min_cosine: for int8, the least cosine of an embedding to float32's; 0.995 when None.
        min_agreement: for int8, the least share of decisions of the other heads that stay the
            same; 0.99 when None.
        revision: a hub revision.
        offline: whether to use the hub's cache only.
        allow_new_head: whether a head that the checkpoint lacks may be a new, untrained one.
        overwrite: whether to replace an artifact that is at `output`.
        progress: called as each step begins, with its number from 1, their count, and its name.

    Returns the manifest that was written.

    Raises ExportError for a checkpoint, an output or options that cannot be used, and ParityError
    when the graph's answers are not the checkpoint's, no int8 graph's are near enough, or float16
    or bfloat16 takes it further from float32 than twice as far as PyTorch; in each case nothing is
    written.
    """
    output = Path(output)
    target, dtype = choose_target(device, engine, dtype)
    tell = Steps([step for step in STEPS if dtype == "int8" or step != "quantize"], progress)
    wishes = check_wishes(
        dtype,
        calibration=calibration,
        min_cosine=min_cosine,
        min_agreement=min_agreement,
    )
    check_output(output, overwrite=overwrite)

    tell()
    checkpoint = open_checkpoint(str(model), revision=revision, offline=offline)
    head = head_for(task, checkpoint.config.get("architectures"))
    module = build_model(head, checkpoint, allow_new_head=allow_new_head)
    if head.task == "text-generation":
        module.config.eos_token_id = eos_token_id(checkpoint)

    tell()
    cached = has_cache(module, head) and target.device != "cuda"
    graph = trace(module, head, cached=cached)

    with staged(output, overwrite=overwrite) as stage:
        tell()
        tokenizer = write_tokenizer(checkpoint, stage)
        mask_id = tokenizer.special_ids["mask"]
        fused = _fuse(
            graph,
            module.config,
            head,
            target,
            mask_id=mask_id,
            to_quantize=wishes is not None,
        )
        if cached:
            make_token_types_optional(graph)

        tell()
        files = _save(graph, stage)
        gate: dict[str, Any] = {
            "session_level": target.session_level,
            "engine": target.engine,
            "mask_id": mask_id,
        }
        report = check_parity(module, head, stage / files[0], cached=cached, **gate)
        parity = asdict(report)
        if dtype in HALVES:
            tell.detail(f"in {dtype}")
            fused["Cast"] = _round(graph, target, dtype)
            for file in files:
                (stage / file).unlink()
            files = _save(graph, stage)
            half = check_half(module, head, stage / files[0], dtype, **gate)
            parity["half"] = asdict(half)

        quantization = None
        if wishes is not None:
            tell()
            for file in files:
                (stage / file).unlink()
            subject = Subject(
                head,
                Tokenizer((stage / "tokenizer.json").read_text(encoding="utf-8"), tokenizer),
                ModelConfig.from_json(module.config.to_dict()),
                tuple(_spec(value) for value in graph.graph.inputs),
            )
            quantization = quantize(graph, subject, stage, wishes, tell.detail)
            fused |= finish_int8(graph)
            files = _save(graph, stage)

        tell()
        module.config.save_pretrained(stage)
        manifest = Manifest(
            schema=SCHEMA,
            task=task if task in ALIASES else head.task,
            architecture=head.class_name,
            target={"device": device, "engine": target.engine, "dtype": dtype},
            source=asdict(checkpoint.source),
            graph=_describe(graph, files[0], target, dtype, fused),
            tokenizer=tokenizer,
            parity=parity,
            files=tuple(
                FileEntry(path.name, path.stat().st_size, sha256_of(path))
                for path in sorted(stage.iterdir())
            ),
            versions=_versions(),
            quantization=quantization,
        )
        (stage / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _fuse(
    graph: ir.Model,
    config: Any,
    head: Head,
    target: Target,
    *,
    mask_id: int | None,
    to_quantize: bool,
) -> dict[str, int]:
    """The target's fusions; how many of each operator there are after them."""
    if target.engine == "triton":
        return fuse_to_dialect(graph, config, head, mask_id=mask_id)
    if target.device == "cuda":
        return fuse_for_cuda(graph, config, head)
    return fuse(graph, config, head, target.name, mask_id=mask_id, to_quantize=to_quantize)


def _round(graph: ir.Model, target: Target, dtype: str) -> int:
    """Half precision for a graph that was proved in float32; how many casts that took."""
    return to_precision(graph, dtype) if target.engine == "triton" else to_float16(graph)


def _save(graph: ir.Model, directory: Path) -> list[str]:
    """Write the graph, with its weights beside it when they are many."""
    size = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    # The name that Optimum looks for on the hub.
    external = "model.onnx_data" if size > _ONE_FILE else None
    ir.save(graph, directory / "model.onnx", external_data=external)
    return ["model.onnx"] if external is None else ["model.onnx", external]


def _describe(
    graph: ir.Model, file: str, target: Target, dtype: str, fused: dict[str, int]
) -> Graph:
    return Graph(
        file=file,
        opset=graph.opset_imports[""],
        least_onnxruntime="" if target.engine == "triton" else _least_onnxruntime(dtype),
        session_level=target.session_level,
        inputs=tuple(_spec(value) for value in graph.graph.inputs),
        outputs=tuple(_spec(value) for value in graph.graph.outputs),
        fused=fused,
        least=target.least,
    )


def _least_onnxruntime(dtype: str) -> str:
    """The first ONNX Runtime seen to run such graphs.

    1.22 lacks opset 23's Attention, and 1.23 its QuantizeLinear.
    """
    return "1.24.1" if dtype == "int8" else "1.23.0"


def _spec(value: Any) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else str(d.value) for d in value.shape)
    optional = value.is_initializer() or value.name in EMBEDDINGS
    return TensorSpec(value.name, str(value.dtype.numpy()), shape, optional)


def _versions() -> dict[str, str]:
    found = {"bertrt": __version__, "python": platform.python_version()}
    for name in _VERSIONS:
        found[name] = importlib.metadata.version(name)
    return found
