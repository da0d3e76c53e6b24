"""What the kinds share in which Triton's ONNX Runtime runs a graph: which artifacts, and how."""

import shutil
from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.artifact.graph_io import SENTENCE_EMBEDDING
from bertrt.artifact.manifest import EmbeddingFacts, TensorSpec
from bertrt.errors import ExportError
from bertrt.text_tensors import TensorType
from bertrt.triton_repository.model_config import Settings, instances, parameters
from bertrt.triton_repository.text_format import Message

__all__ = ["check_graph", "copy_graph", "graph_output", "least_triton", "session_fields"]

_INSTEAD = "use --kind python"
# The output of a graph that has one answer a text.
_OUTPUTS = {"feature-extraction": SENTENCE_EMBEDDING, "text-classification": "logits"}
# Releases of Triton with the ONNX Runtime in them, by NVIDIA's release notes.
_RELEASES = (
    ("25.09", "1.23.0"),
    ("26.01", "1.23.2"),
    ("26.02", "1.24.1"),
    ("26.06", "1.24.4"),
    ("26.07", "1.27.0"),
)


def check_graph(artifact: Artifact, kind: str) -> None:
    """Raise ExportError if a graph alone does not give what the model's answers are made of."""
    manifest = artifact.manifest
    if manifest.target["engine"] != "ort":
        engine = manifest.target["engine"]
        raise ExportError(
            f"the artifact is for the engine {engine}, and Triton runs graphs for ort: {_INSTEAD}"
        )
    if manifest.task not in _OUTPUTS:
        raise ExportError(
            f"--kind {kind} is for {' and '.join(_OUTPUTS)}, not for {manifest.task}: {_INSTEAD}"
        )
    facts = manifest.embedding
    if isinstance(facts, EmbeddingFacts) and facts.dimensions is not None:
        raise ExportError(
            f"this model keeps the first {facts.dimensions} of {facts.size} numbers, and its graph "
            f"gives all: {_INSTEAD}"
        )
    if isinstance(facts, EmbeddingFacts) and facts.default_prompt_name is not None:
        prompt = facts.prompts[facts.default_prompt_name]
        if kind == "text" and prompt:
            raise ExportError(
                f"this model puts its prompt {facts.default_prompt_name!r} before each text, and "
                f"its graph does not: {_INSTEAD}"
            )
        if prompt and not facts.include_prompt:
            raise ExportError(
                f"this model leaves the tokens of its prompt {facts.default_prompt_name!r} out of "
                f"its vectors, and its graph does not: {_INSTEAD}"
            )


def graph_output(artifact: Artifact) -> TensorType:
    """Return the graph's output with one answer a text."""
    manifest = artifact.manifest
    name = _OUTPUTS[manifest.task]
    spec: TensorSpec = next(one for one in manifest.graph.outputs if one.name == name)
    sizes = (size if isinstance(size, int) else -1 for size in spec.shape)
    return TensorType(name, "FP32", tuple(sizes))


def session_fields(artifact: Artifact, settings: Settings, file: str) -> Message:
    """Return the fields for a session of ONNX Runtime."""
    fields: Message = {
        "backend": "onnxruntime",
        "default_model_filename": file,
        **instances(artifact),
    }
    if settings.threads == "auto":
        return fields
    return {**fields, **parameters({"intra_op_thread_count": str(settings.threads)})}


def copy_graph(artifact: Artifact, graphs: list[str], version: Path) -> None:
    """Copy graphs with the weights that are stored beside them.

    A graph refers to its weights by a plain name, so that all files go into one folder.
    """
    version.mkdir(parents=True)
    listed = [entry.name for entry in artifact.manifest.files]
    weights = [name for name in listed if name.endswith(".onnx_data")]
    for name in (*graphs, *weights):
        shutil.copyfile(artifact.path / name, version / Path(name).name)


def least_triton(onnxruntime: str) -> str | None:
    """Return the first release of Triton that has this ONNX Runtime; None if none is known."""
    least = _numbers(onnxruntime)
    return next((name for name, version in _RELEASES if _numbers(version) >= least), None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
