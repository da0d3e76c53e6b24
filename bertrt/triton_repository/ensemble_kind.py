"""A repository of three models: a tokenizer in Python, the graph in ONNX Runtime, and both.

Triton merges requests of equal shapes only, so the tokenizer pads to few lengths.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import MANIFEST
from bertrt.text_tensors import TEXT_PAIR, TensorType, text_inputs
from bertrt.triton_repository.graph_kinds import (
    check_graph,
    copy_graph,
    graph_output,
    session_fields,
)
from bertrt.triton_repository.model_config import (
    Interface,
    Settings,
    batched,
    parameters,
    write_config,
)
from bertrt.triton_repository.python_kind import copy_model_code
from bertrt.triton_repository.text_format import Message, Word

__all__ = ["TOKENIZER_FILES", "write_ensemble"]

# What the tokenizer reads of the artifact.
TOKENIZER_FILES = (MANIFEST, "config.json", "tokenizer.json")


def write_ensemble(artifact: Artifact, settings: Settings, root: Path) -> Interface:
    """Write the models NAME, NAME_tokenizer and NAME_graph; return what NAME takes and gives.

    Raises ExportError as `check_graph` does.
    """
    check_graph(artifact, "ensemble")
    tokenizer = replace(settings, name=f"{settings.name}_tokenizer")
    graph = replace(settings, name=f"{settings.name}_graph")
    inputs, arrays = text_inputs(artifact.manifest.task), _arrays(artifact)
    output = graph_output(artifact)
    optional = frozenset({TEXT_PAIR})
    _write_tokenizer(artifact, tokenizer, Interface(inputs, arrays, optional), root)
    _write_graph(artifact, graph, Interface(arrays, (output,)), root)

    # A vector has the name that it has in the kind python; logits are not scores yet.
    is_vector = artifact.manifest.task == "feature-extraction"
    given = replace(output, name="embedding") if is_vector else output
    interface = Interface(inputs, (given,), optional)
    tokens = {array.name: array.name for array in arrays}
    steps = [
        _step(tokenizer.name, {one.name: one.name for one in inputs}, tokens),
        _step(graph.name, tokens, {output.name: given.name}),
    ]
    folder = root / settings.name
    # Triton wants a version, and stores of objects have no folders without a file.
    (folder / "1").mkdir(parents=True)
    (folder / "1" / ".keep").touch()
    config = {
        "name": settings.name,
        "platform": "ensemble",
        "max_batch_size": settings.max_batch,
        **interface.fields(),
        "ensemble_scheduling": {"step": steps},
    }
    write_config(folder, config)
    return interface


def _arrays(artifact: Artifact) -> tuple[TensorType, ...]:
    """Return the graph's inputs; those with a default keep it."""
    specs = [spec for spec in artifact.manifest.graph.inputs if not spec.optional]
    return tuple(TensorType(spec.name, "INT64", (-1, -1)) for spec in specs)


def _write_tokenizer(
    artifact: Artifact, settings: Settings, interface: Interface, root: Path
) -> None:
    folder = root / settings.name
    version = copy_model_code(folder)
    for name in TOKENIZER_FILES:
        shutil.copyfile(artifact.path / name, version / name)
    values = {"gives": "tokens", "truncation": str(settings.truncation).lower()}
    config = {
        "name": settings.name,
        "backend": "python",
        **batched(settings),
        **interface.fields(),
        "instance_group": [{"kind": Word("KIND_CPU"), "count": 1}],
        **parameters(values),
    }
    write_config(folder, config)


def _write_graph(artifact: Artifact, settings: Settings, interface: Interface, root: Path) -> None:
    folder = root / settings.name
    graph = artifact.manifest.graph
    files = [graph.file, *(variant.file for variant in graph.variants)]
    copy_graph(artifact, files, folder / "1")
    config = {
        "name": settings.name,
        **session_fields(artifact, settings, Path(graph.file).name),
        **batched(settings),
        **interface.fields(),
    }
    write_config(folder, config)


def _step(name: str, inputs: dict[str, str], outputs: dict[str, str]) -> Message:
    """Return a step: from the names of its model's tensors to the ensemble's."""
    return {
        "model_name": name,
        "model_version": -1,
        "input_map": [{"key": key, "value": value} for key, value in inputs.items()],
        "output_map": [{"key": key, "value": value} for key, value in outputs.items()],
    }
