"""From a checkpoint to an artifact: the steps of an export, in order."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir

from bertrt.artifact.directory import sha256_of
from bertrt.artifact.manifest import MANIFEST, SCHEMA, FileEntry, Manifest, TokenizerFacts
from bertrt.artifact.model_config import ModelConfig
from bertrt.artifact.targets import DEVICES, DTYPES, ENGINES, Target, choose_target
from bertrt.engines.ort import onnxruntime
from bertrt.export.atomic_dir import check_output, default_output, staged
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.generation_config import eos_token_id
from bertrt.export.fusion.optional_token_types import make_token_types_optional
from bertrt.export.graph_variants import has_variants, write_variants
from bertrt.export.half_precision.cuda_ort import to_float16
from bertrt.export.half_precision.rounding import HALVES
from bertrt.export.half_precision.triton import to_precision
from bertrt.export.heads import ALIASES, Head, head_for
from bertrt.export.manifest import describe_graph, spec_of, versions
from bertrt.export.parity.float32 import check_parity
from bertrt.export.parity.half import check_half
from bertrt.export.pipelines.cpu import fuse
from bertrt.export.pipelines.cuda_ort import fuse_for_cuda
from bertrt.export.pipelines.triton import fuse_to_dialect
from bertrt.export.quantize.options import check_wishes
from bertrt.export.quantize.quantize import Subject, quantize
from bertrt.export.quantize.rewrite import finish_int8
from bertrt.export.steps import Progress, Steps
from bertrt.export.tokenizer.text_graph.write import check_text_graph_wish, write_text_graph
from bertrt.export.tokenizer.tokenizer import write_tokenizer
from bertrt.export.tracing.extra_outputs import check_internals, internals
from bertrt.export.tracing.trace import has_cache, trace
from bertrt.tokenizer import Tokenizer

__all__ = ["DEVICES", "DTYPES", "ENGINES", "export"]

STEPS = ("read the checkpoint", "trace", "fuse", "check parity", "quantize", "write")
# Above this many bytes the weights lie beside the graph, where ONNX Runtime maps them into memory:
# it opens them twice as fast as a protobuf that holds them (which cannot hold 2 GB at all).
_ONE_FILE = 16_000_000


def export(
    model: str | Path,
    output: str | Path | None = None,
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
    output_hidden_states: bool = False,
    output_attentions: bool = False,
    with_tokenizer: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Export a BERT checkpoint to an artifact directory, proved to give the checkpoint's answers.

    Args:
        model: a hub id, a local folder, or "demo" for the embedded model.
        output: the directory to make; None for one in the current folder, named after the model
            and the task.
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
        output_hidden_states: whether the graph also gives each layer's hidden states.
        output_attentions: whether it also gives each layer's attention weights, which makes it
            slower: attention is then several operators.
        with_tokenizer: whether to write a second graph too, `model_text.onnx`, which takes text.
        overwrite: whether to replace an artifact that is at `output`.
        progress: called as each step begins, with its number from 1, their count, and its name.

    Returns the manifest that was written.

    Raises DeviceError without ONNX Runtime, ExportError for a checkpoint, an output or options that
    cannot be used, and ParityError when the graph's answers are not the checkpoint's, no int8
    graph's are near enough, or float16 or bfloat16 takes it further from float32 than twice as far
    as PyTorch; in each case nothing is written.
    """
    target, dtype = choose_target(device, engine, dtype)
    tell = Steps([step for step in STEPS if dtype == "int8" or step != "quantize"], progress)
    wishes = check_wishes(
        dtype,
        calibration=calibration,
        min_cosine=min_cosine,
        min_agreement=min_agreement,
    )
    check_internals(device, dtype, asked=output_hidden_states or output_attentions)
    onnxruntime()  # runs the graph in the end: what is wrong with it is better known before
    if output is not None:
        check_output(Path(output), overwrite=overwrite)

    tell()
    checkpoint = open_checkpoint(str(model), revision=revision, offline=offline)
    head = head_for(task, checkpoint.config.get("architectures"))
    task = task if task in ALIASES else head.task
    output = Path(output or default_output(checkpoint.source.model, task))
    check_output(output, overwrite=overwrite)
    if with_tokenizer:
        check_text_graph_wish(head, device)
    module = build_model(head, checkpoint, allow_new_head=allow_new_head)
    if head.task == "text-generation":
        module.config.eos_token_id = eos_token_id(checkpoint)

    tell()
    cached = has_cache(module, head) and target.device != "cuda"
    shown = internals(
        module.config, head, hidden_states=output_hidden_states, attentions=output_attentions
    )
    graph = trace(module, head, shown, cached=cached)

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
            internals=shown,
        )
        if cached:
            make_token_types_optional(graph)

        tell()
        varies = has_variants(target, dtype)
        files = _save(graph, stage, beside=varies)
        variants = write_variants(stage / files[0], fused) if varies else ()
        gate: dict[str, Any] = {
            "optimization_level": target.optimization_level,
            "engine": target.engine,
            "mask_id": mask_id,
        }
        report = check_parity(
            module,
            head,
            stage / files[0],
            *(stage / one.file for one in variants),
            cached=cached,
            internals=shown,
            **gate,
        )
        parity = asdict(report)
        if dtype in HALVES:
            tell.detail(f"in {dtype}")
            fused["Cast"] = _round(graph, target, dtype)
            files = _save(graph, stage)
            half = check_half(module, head, stage / files[0], dtype, **gate)
            parity["half"] = asdict(half)

        quantization = None
        if wishes is not None:
            tell()
            subject = Subject(
                head,
                _tokenizer(stage, tokenizer),
                ModelConfig.from_json(module.config.to_dict()),
                tuple(spec_of(value) for value in graph.graph.inputs),
            )
            quantization = quantize(graph, subject, stage, wishes, tell.detail)
            fused = {name: n for name, n in (fused | finish_int8(graph)).items() if n}
            files = _save(graph, stage)

        tell()
        text_graph = None
        if with_tokenizer:
            text_graph = write_text_graph(stage / files[0], _tokenizer(stage, tokenizer))
        module.config.save_pretrained(stage)
        manifest = Manifest(
            schema=SCHEMA,
            task=task,
            architecture=head.class_name,
            target={"device": device, "engine": target.engine, "dtype": dtype},
            source=asdict(checkpoint.source),
            graph=describe_graph(graph, files[0], target, dtype, fused, variants),
            tokenizer=tokenizer,
            parity=parity,
            files=tuple(
                FileEntry(path.name, path.stat().st_size, sha256_of(path))
                for path in sorted(stage.iterdir())
            ),
            versions=versions(),
            quantization=quantization,
            text_graph=text_graph,
        )
        (stage / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _tokenizer(directory: Path, facts: TokenizerFacts) -> Tokenizer:
    return Tokenizer((directory / "tokenizer.json").read_text(encoding="utf-8"), facts)


def _fuse(
    graph: ir.Model,
    config: Any,
    head: Head,
    target: Target,
    *,
    mask_id: int | None,
    to_quantize: bool,
    internals: Sequence[str],
) -> dict[str, int]:
    """The target's fusions; how many of each operator there are after them."""
    if target.engine == "triton":
        return fuse_to_dialect(graph, config, head, mask_id=mask_id)
    if target.device == "cuda":
        return fuse_for_cuda(graph, config, head)
    return fuse(
        graph,
        config,
        head,
        target.name,
        mask_id=mask_id,
        to_quantize=to_quantize,
        internals=internals,
    )


def _round(graph: ir.Model, target: Target, dtype: str) -> int:
    """Half precision for a graph that was proved in float32; how many casts that took."""
    return to_precision(graph, dtype) if target.engine == "triton" else to_float16(graph)


def _save(graph: ir.Model, directory: Path, *, beside: bool = False) -> list[str]:
    """Write the graph in place of the last one, with its weights beside it when they are many.

    With `beside` they are there in any case, for other graphs to share.
    """
    for old in directory.glob("model.onnx*"):
        old.unlink()
    size = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    # The name that Optimum looks for on the hub.
    external = "model.onnx_data" if beside or size > _ONE_FILE else None
    ir.save(graph, directory / "model.onnx", external_data=external)
    return ["model.onnx"] if external is None else ["model.onnx", external]
