"""Tell by its files' names what a folder is that holds no whole checkpoint, and what to do.

Names are relative to the folder, those in its subfolders included, so that a hub model is known
before anything large is downloaded.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from bertrt.artifact.manifest import MANIFEST
from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json

__all__ = ["GetPath", "check_adapter", "names_in", "where_it_lies"]

# Maps a file's name to its path; for the hub, it downloads the file.
GetPath = Callable[[str], Path]

_ADAPTER = "adapter_config.json"
# The endings of files that other exporters write, in place of a checkpoint's.
_EXPORTED = {
    ".onnx": "ONNX",
    ".gguf": "GGUF",
    ".tflite": "TensorFlow Lite",
    "openvino_model.xml": "OpenVINO",
}


def names_in(folder: Path) -> set[str]:
    """Return the names of a folder's files and, as `subfolder/name`, of its subfolders' files."""
    files = [*folder.glob("*"), *folder.glob("*/*")]
    return {path.relative_to(folder).as_posix() for path in files if path.is_file()}


def check_adapter(names: Collection[str], get_path: GetPath, where: str) -> None:
    """Raise ExportError if a folder holds an adapter, with or without a model's own weights.

    transformers loads the model that the adapter names, and not the one beside it.

    Args:
        names: the names of the folder's files.
        get_path: returns the path of a file that must be read.
        where: the folder's name, for the error.
    """
    if _ADAPTER not in names:
        return
    settings = read_json(get_path(_ADAPTER))
    base = settings.get("base_model_name_or_path") or settings.get("model_name")
    kind = f" ({settings['peft_type']})" if settings.get("peft_type") else ""
    raise ExportError(
        f"{where} is an adapter{kind} of {repr(base) if base else 'another model'}, not a whole "
        "model: merge it with PeftModel.from_pretrained(model, adapter).merge_and_unload(), save "
        "the result with save_pretrained to another folder, and export that"
    )


def where_it_lies(names: Collection[str]) -> str | None:
    """Return what a folder without a config or weights is, and what to export instead.

    None if its files' names do not tell.
    """
    if MANIFEST in names:
        return "it is an artifact already, which bertrt.load opens"
    folders = sorted({name.partition("/")[0] for name in names if name.endswith("/config.json")})
    steps = {int(name[11:]): name for name in folders if re.fullmatch(r"checkpoint-\d{1,18}", name)}
    if steps:
        return (
            "a Trainer's checkpoints are in its subfolders, of which "
            f"{steps[max(steps)]!r} is the last: export that, or another"
        )
    for ending, kind in _EXPORTED.items():
        found = sorted(name for name in names if name.endswith(ending))
        if found:
            return (
                f"it holds {kind} files ({found[0]}), the result of another export: export the "
                "checkpoint that they were made from"
            )
    if folders:
        return f"there is a config.json in its subfolder {folders[0]!r}: is that the model?"
    return None
