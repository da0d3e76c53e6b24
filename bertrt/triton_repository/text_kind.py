"""A repository of one model: the graph that takes text, in Triton's ONNX Runtime."""

from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.errors import ExportError
from bertrt.text_tensors import TEXT, TensorType
from bertrt.triton_repository.graph_kinds import (
    check_graph,
    copy_graph,
    graph_output,
    session_fields,
)
from bertrt.triton_repository.model_config import Interface, Settings, batched, write_config

__all__ = ["write_text"]


def write_text(artifact: Artifact, settings: Settings, root: Path) -> Interface:
    """Write the model, and return what it takes and gives.

    Its input is `text` alone: Triton gives a graph no input that has a default.

    Raises ExportError for an artifact without such a graph, and as `check_graph` does.
    """
    check_graph(artifact, "text")
    if artifact.manifest.text_graph is None:
        raise ExportError(
            "the artifact has no graph that takes text: export it with --with-tokenizer, or use "
            "another --kind"
        )
    if not settings.truncation:
        raise ExportError("a graph that takes text always cuts it: leave out --no-truncation")
    file = str(artifact.manifest.text_graph["file"])
    folder = root / settings.name
    copy_graph(artifact, [file], folder / "1")
    interface = Interface((TensorType(TEXT, "BYTES", (-1,)),), (graph_output(artifact),))
    fields = interface.fields()
    config = {
        "name": settings.name,
        **session_fields(artifact, settings, Path(file).name),
        **batched(settings),
        # The graph's own input has the batch axis alone.
        "input": [{**one, "reshape": {"shape": []}} for one in fields["input"]],
        "output": fields["output"],
        "model_operations": {"op_library_filename": settings.op_library},
    }
    write_config(folder, config)
    return interface
