"""A manifest for people and for programs: what `export` reports and `inspect` shows."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import FileEntry, Manifest, TensorSpec
from bertrt.cli.table import aligned, printable, size

__all__ = ["as_json", "details", "summary"]

Rows = list[tuple[str, str]]


def as_json(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """The artifact's directory and everything that bertrt.json says, ready for JSON."""
    return {"directory": str(directory), **dataclasses.asdict(manifest)}


def summary(directory: Path, manifest: Manifest) -> list[str]:
    """What an export made and how near it is to PyTorch, as lines."""
    return _lines(
        [
            *_identity(directory, manifest),
            *_graph(manifest),
            *_parity(manifest),
            *_int8(manifest),
            *_text_graph(manifest),
        ]
    )


def details(directory: Path, manifest: Manifest) -> list[str]:
    """Everything of a manifest that people ask about, as lines."""
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
            *_files(manifest.files),
            ("versions", _pairs(manifest.versions)),
        ]
    )


def _lines(rows: Rows) -> list[str]:
    """Rows as lines; a name that repeats is written once."""
    named = [
        (name if i == 0 or rows[i - 1][0] != name else "", printable(value))
        for i, (name, value) in enumerate(rows)
    ]
    return aligned(named)


def _identity(directory: Path, manifest: Manifest) -> Rows:
    source = manifest.source
    revision = f" at {source['revision']}" if source.get("revision") else ""
    return [
        ("artifact", str(directory)),
        ("task", f"{manifest.task} ({manifest.architecture})"),
        ("source", f"{source['model']}{revision}, {source['format']}"),
        ("target", _pairs(manifest.target)),
    ]


def _graph(manifest: Manifest) -> Rows:
    graph = manifest.graph
    weights = sum(
        one.size for one in manifest.files if one.name in (graph.file, f"{graph.file}_data")
    )
    least = [f"{name} {version}" for name, version in graph.least.items()]
    if graph.least_onnxruntime:
        least.insert(0, f"ONNX Runtime {graph.least_onnxruntime}")
    return [
        (
            "graph",
            f"{graph.file}, {size(weights)}, opset {graph.opset}, {' and '.join(least)} or newer",
        ),
        ("fused", _pairs(graph.fused) or "nothing"),
        *(
            (f"with {one.instructions}", f"{one.file}, {_pairs(one.fused)}")
            for one in graph.variants
        ),
    ]


def _tensors(name: str, tensors: tuple[TensorSpec, ...]) -> Iterator[tuple[str, str]]:
    cells = [
        (one.name, one.dtype, f"[{', '.join(str(size) for size in one.shape)}]") for one in tensors
    ]
    return ((name, line) for line in aligned(cells))


def _parity(manifest: Manifest) -> Rows:
    parity = manifest.parity
    cells = [
        (
            one["name"],
            f"absolute error {one['absolute_error']:.1e} (bound {one['bound']:.0e})",
            f"relative {one['relative_error']:.1e}",
            f"same argmax {one['argmax_agreement']:.2%}",
            f"cosine {one['cosine']:.6f}",
        )
        for one in parity["outputs"]
    ]
    shapes = ", ".join(parity["shapes"])
    before = ", before quantization" if manifest.quantization else ""
    if "half" in parity:
        before = f", before the weights were rounded to {parity['half']['dtype']}"
    return [
        *(("parity", line) for line in aligned(cells)),
        ("parity", f"worst of the shapes {shapes}, against PyTorch in float32{before}"),
        *_half(parity.get("half")),
    ]


def _half(half: Any) -> Rows:
    """The gate of float16 and bfloat16, for a graph that passed it."""
    if half is None:
        return []
    name = half["dtype"]
    cells = [
        (
            one["name"],
            f"absolute error {one['absolute_error']:.1e} (bound {one['bound']:.1e})",
            f"PyTorch's {one['eager_error']:.1e}",
            f"same argmax {one['argmax_agreement']:.2%}",
            f"cosine {one['cosine']:.6f}",
        )
        for one in half["outputs"]
    ]
    shapes = ", ".join(half["shapes"])
    told = f"worst of the shapes {shapes}, the graph's and PyTorch's in {name}, against float32"
    return [*((name, line) for line in aligned(cells)), (name, told)]


def _int8(manifest: Manifest) -> Rows:
    report = manifest.quantization
    if report is None:
        return []
    texts = report["calibration"]
    bounds = [
        f"{report[name]:.4f} {name} (bound {least:g})" for name, least in report["bound"].items()
    ]
    return [
        (
            "int8",
            f"{', '.join(bounds)}, worst of {report['answers']} answers to {texts['held_out']} "
            "held-out texts, against float32",
        ),
        (
            "int8",
            f"{report['products_in_int8']:.1%} of all products; {len(report['search'])} mixtures "
            f"tried; scales from {texts['calibrated_on']} texts ({texts['texts']})",
        ),
        ("int8", f"a text alone and in a batch: cosine {report['alone_and_in_a_batch']:.6f}"),
    ]


def _text_graph(manifest: Manifest) -> Rows:
    graph = manifest.text_graph
    if graph is None:
        return []
    told = f"takes text; splits {graph['different']} of {graph['compared']} texts otherwise"
    return [("text graph", f"{graph['file']} {told} than the tokenizer")]


def _layers(manifest: Manifest) -> Iterator[tuple[str, str]]:
    layers = manifest.quantization["layers"] if manifest.quantization else {}
    return (("layer", line) for line in aligned(list(layers.items())))


def _tokenizer(manifest: Manifest) -> Rows:
    facts = manifest.tokenizer
    ids = ", ".join(f"{role} {id}" for role, id in facts.special_ids.items() if id is not None)
    return [
        ("tokenizer", f"at most {facts.max_length} tokens, padding on the {facts.padding_side}"),
        ("tokenizer", f"special tokens: {ids}"),
    ]


def _files(files: tuple[FileEntry, ...]) -> Iterator[tuple[str, str]]:
    cells = [(one.name, size(one.size), f"sha256 {one.sha256[:12]}…") for one in files]
    return (("file", line) for line in aligned(cells, numbers=[1]))


def _pairs(values: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
