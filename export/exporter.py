"""From a checkpoint to an artifact: read → build graph → prove → quantize → write."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from bertrt.artifact.directory import sha256_of
from bertrt.artifact.manifest import (
    MANIFEST,
    SCHEMA,
    FileEntry,
    Manifest,
    TokenizerFacts,
    Variant,
)
from bertrt.artifact.model_config import ModelConfig
from bertrt.artifact.targets import Target, choose_target
from bertrt.engines.ort import onnxruntime
from bertrt.export.atomic_dir import check_output, default_output, staged
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.cross_encoder import is_reranker
from bertrt.export.checkpoints.saved_task import saved_task
from bertrt.export.extra_outputs import check_extra_outputs
from bertrt.export.fusion.optional_token_types import make_token_types_optional
from bertrt.export.graph_variants import has_variants, write_variants
from bertrt.export.half_precision.cuda_ort import to_float16
from bertrt.export.half_precision.rounding import HALVES
from bertrt.export.half_precision.triton import to_half_precision
from bertrt.export.heads import ALIASES, ENCODERS, head_for
from bertrt.export.layout.choose import (
    GraphFile,
    Layout,
    check_layout,
    check_layout_task,
    choose_layout,
)
from bertrt.export.layout.hub_files import write_hub_files
from bertrt.export.manifest import describe_graph, spec_of, versions
from bertrt.export.opsets.choose import choose_opset
from bertrt.export.opsets.lower import lower_opset
from bertrt.export.parity.float32 import check_parity
from bertrt.export.parity.half import check_half
from bertrt.export.pipelines.cpu import fuse_for_cpu
from bertrt.export.pipelines.cuda_ort import fuse_for_cuda_ort
from bertrt.export.pipelines.triton import fuse_for_triton
from bertrt.export.quantize.options import QuantizationOptions, check_quantization_options
from bertrt.export.quantize.quantize import QuantizationTarget, quantize
from bertrt.export.quantize.rewrite import finish_int8
from bertrt.export.quantize.samples import Samples, pair_samples, text_samples
from bertrt.export.quantize.standard_operators import use_standard_operators
from bertrt.export.save_graph import save_graph
from bertrt.export.shared_slices import share_slices
from bertrt.export.source import Source, build_source, read_task_facts, with_limits
from bertrt.export.tokenizer.text_graph.write import write_text_graph
from bertrt.export.tokenizer.tokenizer import write_tokenizer
from bertrt.export.tracing.trace import trace
from bertrt.progress import ProgressCallback
from bertrt.tokenizer import Tokenizer

__all__ = ["export"]

_STEPS = ("read the checkpoint", "trace", "fuse", "check parity", "quantize", "write")


def export(
    model: str | Path,
    output: str | Path | None = None,
    *,
    task: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    dtype: str | None = None,
    layout: str = "artifact",
    opset: int | None = None,
    calibration: str | Path | None = None,
    min_cosine: float | None = None,
    min_agreement: float | None = None,
    revision: str | None = None,
    offline: bool = False,
    tokenizer: str | Path | None = None,
    allow_new_head: bool = False,
    output_hidden_states: bool = False,
    output_attentions: bool = False,
    with_tokenizer: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Manifest:
    """Export a BERT checkpoint to an artifact directory that gives the checkpoint's answers.

    Args:
        model: a hub id, a local folder, or "demo" for the embedded model.
        output: the directory to make; None for one in the current folder, named after the model
            and the task.
        task: the task, by its Hugging Face name; None takes that of the modules that
            sentence-transformers saved, or the config's architecture.
        device: "cpu" for the graph that is fastest on ONNX Runtime's CPU provider, "any" for
            standard ONNX operators only, "cuda" for an NVIDIA GPU; None for "cpu", or for the
            layout "hub" for "any", the only one that it has.
        engine: for cuda, "triton" (the default) for bertrt's own kernels, "ort" for ONNX Runtime's
            CUDA provider.
        dtype: "float32", the default except for cuda; "int8" for linear layers in int8 (devices
            "cpu" and "any"), calibrated and searched for the fastest mixture whose answers stay
            close to float32's; "float16", the default for cuda, or "bfloat16" (engine "triton").
        layout: "artifact", or "hub" for the files that Optimum, FastEmbed, transformers.js and Text
            Embeddings Inference look for, which `bertrt.load` opens too: `onnx/model.onnx`, with
            "int8" also `onnx/model_quantized.onnx`, and sentence-transformers' files.
        opset: the version of the standard ONNX operators, 17 to 23; below 23 for the device "any"
            only. None for 23, or 17 for the layout "hub".
        calibration: for int8, a file of texts, one a line, similar to those that the model will
            see; for a reranker a file of pairs, each a query, a tab and a passage, or JSON; None
            for the built-in ones.
        min_cosine: for int8, the smallest cosine of an embedding to float32's; None for 0.995.
        min_agreement: for int8, the smallest share of decisions of the other heads that stay the
            same; None for 0.99. A reranker decides which of two passages comes first, where 0.99
            is a Kendall's tau of 0.98, and each score.
        revision: a branch, tag or commit of a hub id.
        offline: use the hub's cache only.
        tokenizer: as `model`, where to take the tokenizer from if not from the checkpoint.
        allow_new_head: allow a new, untrained head if the checkpoint lacks it.
        output_hidden_states: also output each layer's hidden states.
        output_attentions: also output each layer's attention weights. This makes the graph slower:
            attention is then several operators.
        with_tokenizer: also write `model_text.onnx`, a graph that takes text.
        overwrite: replace an artifact at `output`.
        progress: called as `progress(done, total, what)` when a step begins, and for the details of
            a long one: the steps done, all steps, and the step in words, as "2/5 trace".

    Returns the manifest that was written.

    Raises DeviceError without ONNX Runtime, ExportError for a checkpoint, an output or options that
    cannot be used, and ParityError if the graph's answers differ from the checkpoint's, if no int8
    graph's are close enough, or if float16 or bfloat16 differs from float32 by more than twice as
    much as PyTorch's. In each case nothing is written.
    """
    chosen = choose_layout(layout)
    target, dtype = choose_target(device or chosen.device, engine, dtype)
    check_layout(chosen, target, with_tokenizer=with_tokenizer)
    request = _Request(
        target=target,
        dtype=dtype,
        layout=chosen,
        opset=choose_opset(opset, target, chosen.opset),
        quantization=check_quantization_options(
            dtype,
            calibration=calibration,
            min_cosine=min_cosine,
            min_agreement=min_agreement,
        ),
        with_tokenizer=with_tokenizer,
        report=_reporter(dtype, progress),
    )
    check_extra_outputs(target.device, dtype, requested=output_hidden_states or output_attentions)
    onnxruntime()  # needed for the parity check: fail now if it is missing
    if output is not None:
        check_output(Path(output), overwrite=overwrite)

    request.report("read the checkpoint")
    checkpoint = open_checkpoint(
        str(model),
        revision=revision,
        offline=offline,
        tokenizer=None if tokenizer is None else str(tokenizer),
    )
    task = task or saved_task(checkpoint.folder, checkpoint.config)
    architecture = checkpoint.architecture
    head = head_for(task, checkpoint.config.get("architectures"), checkpoint.weights, architecture)
    task = task if task in ALIASES else head.task
    check_layout_task(chosen, task, known=head not in ENCODERS)
    output = Path(output or default_output(checkpoint.source.model, task))
    check_output(output, overwrite=overwrite)
    source = build_source(
        checkpoint,
        head,
        task,
        target,
        allow_new_head=allow_new_head,
        hidden_states=output_hidden_states,
        attentions=output_attentions,
        with_tokenizer=with_tokenizer,
    )
    samples = _samples(request, source)
    with staged(output, overwrite=overwrite) as stage:
        facts = write_tokenizer(
            checkpoint,
            stage,
            vocab_size=source.module.config.vocab_size,
            positions=source.module.config.max_position_embeddings,
            token_types=source.module.config.type_vocab_size,
            **source.marker_options,
        )
        task_facts = read_task_facts(source, _open_tokenizer(stage, facts), stage)
        facts = with_limits(facts, task_facts.get("multi_vector"))
        graphs = _build_graphs(request, source, facts)
        proved = [_prove(request, source, graph, facts, stage) for graph in graphs][-1]
        if samples is not None:
            proved = _quantize(request, source, samples, proved, facts, stage)
        return _write(request, source, proved, facts, task_facts, stage)


@dataclass(frozen=True)
class _Request:
    """The checked options of an export, and the function that reports its steps."""

    target: Target
    dtype: str
    layout: Layout
    opset: int
    quantization: QuantizationOptions | None
    with_tokenizer: bool
    report: Callable[..., None]


@dataclass(frozen=True)
class _Graph:
    """A graph for the target in float32, the number of each operator in it, and its file."""

    model: ir.Model
    fused: dict[str, int]
    file: GraphFile


@dataclass(frozen=True)
class _ProvedGraph:
    """A saved graph whose answers are the checkpoint's, with the reports for the manifest."""

    model: ir.Model
    fused: dict[str, int]
    file: GraphFile
    variants: tuple[Variant, ...]
    parity: dict[str, Any]
    quantization: dict[str, Any] | None = None


def _reporter(dtype: str, progress: ProgressCallback | None) -> Callable[..., None]:
    """Return a function that reports a step, by its name, and optionally a detail of it."""
    steps = [step for step in _STEPS if dtype == "int8" or step != "quantize"]

    def report(step: str, detail: str = "") -> None:
        if progress is not None:
            done = steps.index(step)
            what = f"{step}: {detail}" if detail else step
            progress(done, len(steps), f"{done + 1}/{len(steps)} {what}")

    return report


def _samples(request: _Request, source: Source) -> Samples | None:
    """Return what an int8 graph is calibrated and judged on; None for another dtype."""
    if request.quantization is None:
        return None
    checkpoint, calibration = source.checkpoint, request.quantization.calibration
    if source.head.task == "text-classification" and is_reranker(
        checkpoint.folder, checkpoint.config, source.module.config.num_labels
    ):
        return pair_samples(calibration)
    return text_samples(calibration, source.head)


def _build_graphs(
    request: _Request, source: Source, tokenizer: TokenizerFacts
) -> tuple[_Graph, ...]:
    """Trace the model to a graph, and run the target's fusions for each of the layout's files."""
    request.report("trace")
    model = trace(source.module, source.head, source.extra_outputs, cached=source.cached)
    request.report("fuse")
    *others, last = request.layout.graphs(request.dtype)
    copies = [(model.clone(), file) for file in others]
    return tuple(
        _fuse(request, source, graph, file, tokenizer) for graph, file in [*copies, (model, last)]
    )


def _fuse(
    request: _Request,
    source: Source,
    model: ir.Model,
    file: GraphFile,
    tokenizer: TokenizerFacts,
) -> _Graph:
    """Run the target's fusions on a traced graph, in place."""
    config, head, target = source.module.config, source.head, request.target
    mask_id = tokenizer.special_ids["mask"]
    if target.engine == "triton":
        fused = fuse_for_triton(model, config, head, mask_id=mask_id, vectors=source.vectors)
    elif target.device == "cuda":
        fused = fuse_for_cuda_ort(model, config, head, vectors=source.vectors)
    else:
        fused = fuse_for_cpu(
            model,
            config,
            head,
            target.name,
            mask_id=mask_id,
            to_quantize=file.dtype == "int8",
            extra_outputs=source.extra_outputs,
            vectors=source.vectors,
        )
    if source.cached or _leaves_out_token_types(request, source):
        make_token_types_optional(model)
    if file.dtype != "int8":  # which is of the older opset when it is quantized
        fused = _without(fused, lower_opset(model, request.opset))
    return _Graph(model, fused, file)


def _leaves_out_token_types(request: _Request, source: Source) -> bool:
    """Whether who runs the graph gives no token types: of an encoder with one, on the hub.

    In multiple choice their shape is that of the choices, which a default cannot have.
    """
    one_type = source.module.config.type_vocab_size == 1
    return request.layout.name == "hub" and one_type and source.head.task != "multiple-choice"


def _without(fused: dict[str, int], decomposed: dict[str, int]) -> dict[str, int]:
    """Return the operators that are in a graph after some were decomposed."""
    return {name: number for name, number in fused.items() if name not in decomposed}


def _prove(
    request: _Request,
    source: Source,
    graph: _Graph,
    tokenizer: TokenizerFacts,
    stage: Path,
) -> _ProvedGraph:
    """Save the graph and its variants, and check that their answers are the checkpoint's.

    A graph in half precision is checked in float32, then rounded, saved again and checked again.
    """
    request.report("check parity")
    model, fused, target, dtype = graph.model, graph.fused, request.target, graph.file.dtype
    with_variants = has_variants(target, dtype)
    file = stage / graph.file.path
    save_graph(model, file, external_weights=with_variants, inline=graph.file.inline)
    variants = write_variants(file, fused) if with_variants else ()
    if with_variants:
        for path in (file, *(stage / variant.file for variant in variants)):
            share_slices(path)
    options: dict[str, Any] = {
        "optimization_level": target.optimization_level,
        "engine": target.engine,
        "mask_id": tokenizer.special_ids["mask"],
        "vectors": source.vectors,
        "reference": source.reference,
    }
    float32 = check_parity(
        source.module,
        source.head,
        file,
        *(stage / variant.file for variant in variants),
        cached=source.cached,
        extra_outputs=source.extra_outputs,
        **options,
    )
    parity = asdict(float32)
    if dtype in HALVES:
        request.report("check parity", f"in {dtype}")
        fused = {**fused, "Cast": _round(model, target, dtype)}
        save_graph(model, file)
        half = check_half(source.module, source.head, file, dtype, **options)
        parity["half"] = asdict(half)
    return _ProvedGraph(model, fused, graph.file, variants, parity)


def _round(model: ir.Model, target: Target, dtype: str) -> int:
    """Convert a graph to half precision, in place; returns the number of casts."""
    return to_half_precision(model, dtype) if target.engine == "triton" else to_float16(model)


def _quantize(
    request: _Request,
    source: Source,
    samples: Samples,
    graph: _ProvedGraph,
    tokenizer: TokenizerFacts,
    stage: Path,
) -> _ProvedGraph:
    """Quantize a proved graph to int8, and save it."""
    assert request.quantization is not None
    request.report("quantize")

    def progress(done: int, total: int | None, what: str) -> None:
        detail = what if total is None else f"{what} {done + 1} of {total}"
        request.report("quantize", detail)

    model = graph.model
    target = QuantizationTarget(
        source.head,
        _open_tokenizer(stage, tokenizer),
        ModelConfig.from_json(source.module.config.to_dict()),
        tuple(spec_of(value) for value in model.graph.inputs),
    )
    counts = dict(graph.fused)

    def finish(quantized: ir.Model) -> None:
        nonlocal counts
        counts |= finish_int8(quantized)
        if request.target.device == "any":
            counts |= use_standard_operators(quantized)
        counts = _without(counts, lower_opset(quantized, request.opset))

    report = quantize(model, target, samples, stage, request.quantization, finish, progress)
    save_graph(model, stage / graph.file.path, inline=graph.file.inline)
    fused = {name: number for name, number in counts.items() if number}
    return replace(graph, fused=fused, quantization=report)


def _write(
    request: _Request,
    source: Source,
    graph: _ProvedGraph,
    tokenizer: TokenizerFacts,
    facts: dict[str, Any],
    stage: Path,
) -> Manifest:
    """Write the text graph, the config, the layout's other files and, last, the manifest."""
    request.report("write")
    text_graph = None
    if request.with_tokenizer:
        # It cuts where `embed` does.
        embedding = facts.get("embedding")
        limit = None if embedding is None else embedding.max_length
        limited = replace(tokenizer, max_length=limit or tokenizer.max_length)
        text_graph = write_text_graph(stage / graph.file.path, _open_tokenizer(stage, limited))
    source.reference.config.save_pretrained(stage)
    if request.layout.name == "hub":
        write_hub_files(source.checkpoint.folder, source.module.config.hidden_size, facts, stage)
    target = request.target
    manifest = Manifest(
        schema=SCHEMA,
        task=source.task,
        architecture=source.checkpoint.architecture.class_name(source.head.class_name),
        model=ModelConfig.from_json(source.module.config.to_dict()),
        target={"device": target.device, "engine": target.engine, "dtype": request.dtype},
        source=asdict(source.checkpoint.source),
        graph=describe_graph(
            graph.model, graph.file.path, target, request.dtype, graph.fused, graph.variants
        ),
        tokenizer=tokenizer,
        parity=graph.parity,
        files=tuple(
            FileEntry(path.relative_to(stage).as_posix(), path.stat().st_size, sha256_of(path))
            for path in sorted(stage.rglob("*"))
            if path.is_file()
        ),
        versions=versions(),
        quantization=graph.quantization,
        text_graph=text_graph,
        **facts,
    )
    (stage / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _open_tokenizer(directory: Path, facts: TokenizerFacts) -> Tokenizer:
    return Tokenizer((directory / "tokenizer.json").read_text(encoding="utf-8"), facts)
