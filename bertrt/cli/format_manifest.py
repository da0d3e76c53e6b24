"""Format a manifest: the report of `bertrt export`, the details of `bertrt inspect`, and JSON."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import EncoderFacts, FileEntry, Manifest, TensorSpec
from bertrt.cli.formatting import align_columns, escape_control, format_size

__all__ = ["format_details", "format_summary", "manifest_json"]

Rows = list[tuple[str, str]]


def manifest_json(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """Return the artifact's directory and the contents of bertrt.json, ready for JSON."""
    return {"directory": str(directory), **dataclasses.asdict(manifest)}


def format_summary(directory: Path, manifest: Manifest) -> list[str]:
    """Return lines on what was exported and how close its outputs are to PyTorch's."""
    return _lines(
        [
            *_identity(directory, manifest),
            *_graph(manifest),
            *_parity(manifest),
            *_int8(manifest),
            *_text_graph(manifest),
        ]
    )


def format_details(directory: Path, manifest: Manifest) -> list[str]:
    """Return lines on everything in a manifest."""
    return _lines(
        [
            *_identity(directory, manifest),
            *_graph(manifest),
            *_tensors("input", manifest.graph.inputs),
            *_tensors("output", manifest.graph.outputs),
            *_parity(manifest),
            *_int8(manifest),
            *_layers(manifest),
            *_text_graph(manifest),
            *_tokenizer(manifest),
            *_embedding(manifest),
            *_sparse(manifest),
            *_multi_vector(manifest),
            *_files(manifest.files),
            ("versions", _pairs(manifest.versions)),
        ]
    )


def _lines(rows: Rows) -> list[str]:
    """Return a line for each row; the name of consecutive rows with the same name is shown once."""
    named = [
        (name if i == 0 or rows[i - 1][0] != name else "", escape_control(value))
        for i, (name, value) in enumerate(rows)
    ]
    return align_columns(named)


def _identity(directory: Path, manifest: Manifest) -> Rows:
    source = manifest.source
    rows = [
        ("artifact", str(directory)),
        ("task", f"{manifest.task} ({manifest.architecture})"),
        ("source", f"{_model(source)}, {source['format']}"),
        ("target", _pairs(manifest.target)),
    ]
    if source.get("tokenizer"):
        rows.insert(3, ("tokenizer of", _model(source["tokenizer"])))
    return rows


def _model(source: Mapping[str, Any]) -> str:
    revision = f" at {source['revision']}" if source.get("revision") else ""
    return f"{source['model']}{revision}"


def _graph(manifest: Manifest) -> Rows:
    graph = manifest.graph
    size = sum(
        file.size for file in manifest.files if file.name in (graph.file, f"{graph.file}_data")
    )
    needs = [f"{name} {version}" for name, version in graph.least.items()]
    if graph.least_onnxruntime:
        needs.insert(0, f"ONNX Runtime {graph.least_onnxruntime}")
    return [
        (
            "graph",
            f"{graph.file}, {format_size(size)}, opset {graph.opset}, "
            f"{' and '.join(needs)} or newer",
        ),
        ("fused", _pairs(graph.fused) or "nothing"),
        *(
            (f"with {variant.instructions}", f"{variant.file}, {_pairs(variant.fused)}")
            for variant in graph.variants
        ),
    ]


def _tensors(name: str, tensors: tuple[TensorSpec, ...]) -> Iterator[tuple[str, str]]:
    cells = [
        (tensor.name, tensor.dtype, f"[{', '.join(map(str, tensor.shape))}]") for tensor in tensors
    ]
    return ((name, line) for line in align_columns(cells))


def _parity(manifest: Manifest) -> Rows:
    parity = manifest.parity
    cells = [
        (
            output["name"],
            f"absolute error {output['absolute_error']:.1e} ({_bound(output)})",
            f"relative {output['relative_error']:.1e}",
            f"same argmax {output['argmax_agreement']:.2%}",
            f"cosine {output['cosine']:.6f}",
        )
        for output in parity["outputs"]
    ]
    shapes = ", ".join(parity["shapes"])
    stage = ", before quantization" if manifest.quantization else ""
    if "half" in parity:
        stage = f", before the weights were rounded to {parity['half']['dtype']}"
    return [
        *(("parity", line) for line in align_columns(cells)),
        ("parity", f"worst of the shapes {shapes}, against PyTorch in float32{stage}"),
        *_half(parity.get("half")),
    ]


def _bound(output: dict[str, Any]) -> str:
    """Return an output's bound, and what made it larger: the rounding of PyTorch's own answer."""
    bound = f"bound {output['bound']:.0e}"
    rounding = output.get("eager_error")
    return bound if rounding is None else f"{bound}, PyTorch's own rounding {rounding:.1e}"


def _half(half: Any) -> Rows:
    """Return rows on the comparison of a graph in float16 or bfloat16, if it is one."""
    if half is None:
        return []
    dtype = half["dtype"]
    cells = [
        (
            output["name"],
            f"absolute error {output['absolute_error']:.1e} (bound {output['bound']:.1e})",
            f"PyTorch's {output['eager_error']:.1e}",
            f"same argmax {output['argmax_agreement']:.2%}",
            f"cosine {output['cosine']:.6f}",
        )
        for output in half["outputs"]
    ]
    shapes = ", ".join(half["shapes"])
    scope = f"worst of the shapes {shapes}, the graph's and PyTorch's in {dtype}, against float32"
    return [*((dtype, line) for line in align_columns(cells)), (dtype, scope)]


def _int8(manifest: Manifest) -> Rows:
    report = manifest.quantization
    if report is None:
        return []
    used = report["calibration"]
    kind = "pairs" if "pairs" in used else "texts"
    bounds = [
        f"{report[name]:.4f} {name} (bound {bound:g})" for name, bound in report["bound"].items()
    ]
    return [
        (
            "int8",
            f"{', '.join(bounds)}, worst of {report['answers']} answers to {used['held_out']} "
            f"held-out {kind}, against float32",
        ),
        *(
            ("int8", f"{entry['share']:.2%} of {entry['count']} {entry['what']} stay the same")
            for entry in report.get("judged", [])
        ),
        (
            "int8",
            f"{report['products_in_int8']:.1%} of all products; {len(report['search'])} "
            f"combinations tried; scales from {used['calibrated_on']} {kind} ({used[kind]})",
        ),
        ("int8", f"a text alone and in a batch: cosine {report['alone_and_in_a_batch']:.6f}"),
    ]


def _text_graph(manifest: Manifest) -> Rows:
    graph = manifest.text_graph
    if graph is None:
        return []
    difference = f"{graph['different']} of {graph['compared']} texts"
    return [
        ("text graph", f"{graph['file']} takes text; tokenizes {difference} unlike the tokenizer")
    ]


def _layers(manifest: Manifest) -> Iterator[tuple[str, str]]:
    layers = manifest.quantization["layers"] if manifest.quantization else {}
    return (("layer", line) for line in align_columns(list(layers.items())))


def _embedding(manifest: Manifest) -> Rows:
    facts = manifest.embedding
    if facts is None:
        return []
    steps = [f"{' + '.join(facts.pooling)} pooling", *facts.modules]
    size = facts.dimensions or facts.size
    lines = [
        f"{', then '.join(steps)}: {size} dimensions, {facts.similarity} similarity",
        *_encoder(facts),
    ]
    if not facts.include_prompt:
        lines.append("a prompt's tokens are not pooled")
    return [("embedding", line) for line in lines]


def _sparse(manifest: Manifest) -> Rows:
    facts = manifest.sparse
    if facts is None:
        return []
    kept = "" if facts.top_k is None else f", the {facts.top_k} largest"
    lines = [
        f"{facts.pooling} pooling of {facts.activation}: {facts.size} tokens{kept}, "
        f"{facts.similarity} similarity",
        *_encoder(facts),
    ]
    if facts.query_weights is not None:
        default = "" if facts.default_kind is None else f"; a text is a {facts.default_kind}"
        lines.append(f"queries by the weights in {facts.query_weights}, without the graph{default}")
    return [("sparse", line) for line in lines]


def _encoder(facts: EncoderFacts) -> list[str]:
    """Return the limit and the prompts, in words."""
    longer = "texts cut at" if facts.truncation else "at most"
    lines = [f"{longer} {facts.max_length} tokens"]
    for name, prompt in facts.prompts.items():
        if prompt:
            default = " (default)" if name == facts.default_prompt_name else ""
            lines.append(f"prompt {name!r}{default}: {prompt!r}")
    return lines


def _multi_vector(manifest: Manifest) -> Rows:
    facts = manifest.multi_vector
    if facts is None:
        return []
    steps = ", then ".join((*facts.modules, f"{facts.size} dimensions for each token"))
    lines = [
        f"{steps}, {facts.similarity} similarity",
        f"queries cut at {facts.query_length} tokens",
        *_encoder(facts),
    ]
    if (expansion := facts.expansion) is not None:
        attended = "attended to" if expansion.attend else "not attended to"
        token = f"token {expansion.token_id}, which is {attended}"
        lines.append(f"queries filled up to {expansion.length} tokens with {token}")
    for kind, ids in facts.skipped_ids.items():
        if ids:
            lines.append(f"no vectors for {len(ids)} tokens of the skip list in a {kind}")
    return [("multi-vector", line) for line in lines]


def _tokenizer(manifest: Manifest) -> Rows:
    facts = manifest.tokenizer
    ids = ", ".join(f"{role} {id}" for role, id in facts.special_ids.items() if id is not None)
    return [
        ("tokenizer", f"at most {facts.max_length} tokens, padding on the {facts.padding_side}"),
        ("tokenizer", f"special tokens: {ids}"),
    ]


def _files(files: tuple[FileEntry, ...]) -> Iterator[tuple[str, str]]:
    cells = [(file.name, format_size(file.size), f"sha256 {file.sha256[:12]}…") for file in files]
    return (("file", line) for line in align_columns(cells, right_aligned=[1]))


def _pairs(values: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
