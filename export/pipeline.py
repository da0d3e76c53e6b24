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
    TokenizerFacts,
    sha256_of,
)
from bertrt.config import ModelConfig
from bertrt.errors import ExportError
from bertrt.export.checkpoints import open_checkpoint
from bertrt.export.fusion.embeddings import EMBEDDINGS
from bertrt.export.fusion.pipeline import SESSION_LEVEL, fuse
from bertrt.export.generation import eos_token_id
from bertrt.export.heads import ALIASES, head_for
from bertrt.export.internals import check_internals, internals
from bertrt.export.model import build_model
from bertrt.export.optional_types import make_token_types_optional
from bertrt.export.parity import check_parity
from bertrt.export.quantize.quantize import Subject, quantize
from bertrt.export.quantize.rewrite import finish_int8
from bertrt.export.quantize.wishes import DTYPES, check_wishes
from bertrt.export.staging import check_output, staged
from bertrt.export.steps import Progress, Steps
from bertrt.export.text_graph.write import check_text_graph_wish, write_text_graph
from bertrt.export.tokenizer import write_tokenizer
from bertrt.export.trace import has_cache, trace
from bertrt.tokenizer import Tokenizer

__all__ = ["DEVICES", "DTYPES", "export"]

DEVICES = tuple(SESSION_LEVEL)
STEPS = ("read the checkpoint", "trace", "fuse", "check parity", "quantize", "write")
# The first ONNX Runtimes seen to run the graphs: 1.22 lacks opset 23's Attention, 1.23 its
# QuantizeLinear.
LEAST_ONNXRUNTIME = {"float32": "1.23.0", "int8": "1.24.1"}
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
    dtype: str = "float32",
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
        output: the directory to make.
        task: the head, by its Hugging Face task name; None takes the config's architecture.
        device: "cpu" for the graph that is fastest on ONNX Runtime's CPU provider, "any" for
            standard ONNX operators only.
        dtype: "float32", or "int8" for linear layers in int8 (device "cpu"), calibrated and
            searched for the fastest mixture whose answers stay near float32's.
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

    Raises ExportError for a checkpoint, an output or options that cannot be used, and ParityError
    when the graph's answers are not the checkpoint's, or no int8 graph's are near enough; in
    either case nothing is written.
    """
    tell = Steps([step for step in STEPS if dtype == "int8" or step != "quantize"], progress)
    output = Path(output)
    if device not in DEVICES:
        raise ExportError(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")
    wishes = check_wishes(
        dtype,
        device,
        calibration=calibration,
        min_cosine=min_cosine,
        min_agreement=min_agreement,
    )
    check_internals(device, dtype, asked=output_hidden_states or output_attentions)
    check_output(output, overwrite=overwrite)

    tell()
    checkpoint = open_checkpoint(str(model), revision=revision, offline=offline)
    head = head_for(task, checkpoint.config.get("architectures"))
    if with_tokenizer:
        check_text_graph_wish(head, device)
    module = build_model(head, checkpoint, allow_new_head=allow_new_head)
    if head.task == "text-generation":
        module.config.eos_token_id = eos_token_id(checkpoint)

    tell()
    shown = internals(
        module.config, head, hidden_states=output_hidden_states, attentions=output_attentions
    )
    graph = trace(module, head, shown)

    with staged(output, overwrite=overwrite) as stage:
        tell()
        tokenizer = write_tokenizer(checkpoint, stage)
        mask_id = tokenizer.special_ids["mask"]
        fused = fuse(
            graph,
            module.config,
            head,
            device,
            mask_id=mask_id,
            to_quantize=wishes is not None,
            internals=shown,
        )
        if has_cache(module, head):
            make_token_types_optional(graph)

        tell()
        files = _save(graph, stage)
        level = SESSION_LEVEL[device]
        parity = check_parity(
            module,
            head,
            stage / files[0],
            session_level=level,
            mask_id=mask_id,
            internals=shown,
        )

        quantization = None
        if wishes is not None:
            tell()
            for file in files:
                (stage / file).unlink()
            subject = Subject(
                head,
                _tokenizer(stage, tokenizer),
                ModelConfig.from_json(module.config.to_dict()),
                tuple(_spec(value) for value in graph.graph.inputs),
            )
            quantization = quantize(graph, subject, stage, wishes, tell.detail)
            fused |= finish_int8(graph)
            files = _save(graph, stage)

        tell()
        text_graph = None
        if with_tokenizer:
            text_graph = write_text_graph(stage / files[0], _tokenizer(stage, tokenizer))
        module.config.save_pretrained(stage)
        manifest = Manifest(
            schema=SCHEMA,
            task=task if task in ALIASES else head.task,
            architecture=head.class_name,
            target={"device": device, "engine": "ort", "dtype": dtype},
            source=asdict(checkpoint.source),
            graph=_describe(graph, files[0], LEAST_ONNXRUNTIME[dtype], level, fused),
            tokenizer=tokenizer,
            parity=asdict(parity),
            files=tuple(
                FileEntry(path.name, path.stat().st_size, sha256_of(path))
                for path in sorted(stage.iterdir())
            ),
            versions=_versions(),
            quantization=quantization,
            text_graph=text_graph,
        )
        (stage / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _tokenizer(directory: Path, facts: TokenizerFacts) -> Tokenizer:
    return Tokenizer((directory / "tokenizer.json").read_text(encoding="utf-8"), facts)


def _save(graph: ir.Model, directory: Path) -> list[str]:
    """Write the graph, with its weights beside it when they are many."""
    size = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    # The name that Optimum looks for on the hub.
    external = "model.onnx_data" if size > _ONE_FILE else None
    ir.save(graph, directory / "model.onnx", external_data=external)
    return ["model.onnx"] if external is None else ["model.onnx", external]


def _describe(
    graph: ir.Model, file: str, least_onnxruntime: str, level: str, fused: dict[str, int]
) -> Graph:
    return Graph(
        file=file,
        opset=graph.opset_imports[""],
        least_onnxruntime=least_onnxruntime,
        session_level=level,
        inputs=tuple(_spec(value) for value in graph.graph.inputs),
        outputs=tuple(_spec(value) for value in graph.graph.outputs),
        fused=fused,
    )


def _spec(value: Any) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else str(d.value) for d in value.shape)
    optional = value.is_initializer() or value.name in EMBEDDINGS
    return TensorSpec(value.name, str(value.dtype.numpy()), shape, optional)


def _versions() -> dict[str, str]:
    found = {"bertrt": __version__, "python": platform.python_version()}
    for name in _VERSIONS:
        found[name] = importlib.metadata.version(name)
    return found
