"""A repository of one model, in Triton's Python backend, which answers as the runtime does."""

import shutil
from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import MANIFEST
from bertrt.text_tensors import NEEDS_PAIR, TEXT_PAIR, text_inputs, text_outputs
from bertrt.triton_repository.model_config import (
    Interface,
    Settings,
    batched,
    instances,
    parameters,
    write_config,
)

__all__ = ["copy_model_code", "write_python"]


def write_python(artifact: Artifact, settings: Settings, root: Path) -> Interface:
    """Write the model, with a copy of the whole artifact, and return what it takes and gives."""
    manifest = artifact.manifest
    folder = root / settings.name
    version = copy_model_code(folder)
    for name in (MANIFEST, *(entry.name for entry in manifest.files)):
        copy = version / "artifact" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path / name, copy)
    interface = Interface(
        text_inputs(manifest.task),
        text_outputs(manifest.task, artifact.config.labels, manifest.embedding),
        frozenset() if manifest.task in NEEDS_PAIR else frozenset({TEXT_PAIR}),
    )
    values = {
        "gives": "answers",
        "threads": str(settings.threads),
        "truncation": str(settings.truncation).lower(),
    }
    config = {
        "name": settings.name,
        "backend": "python",
        **batched(settings),
        **interface.fields(),
        **instances(artifact, one_gpu=True),
        **parameters(values),
    }
    write_config(folder, config)
    return interface


def copy_model_code(folder: Path) -> Path:
    """Write the code of a model in the Python backend, and return the folder of its version."""
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("model.py"), version / "model.py")
    return version
