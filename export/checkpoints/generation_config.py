"""Where generation ends: as generation_config.json says, or failing that the config."""

from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.checkpoints.formats.find import read_json

__all__ = ["eos_token_id"]


def eos_token_id(checkpoint: Checkpoint) -> int | list[int] | None:
    """The end-of-sequence token's id, or several; None when nothing ends a text but its length.

    Raises ExportError for a generation_config.json that is damaged.
    """
    path = checkpoint.folder / "generation_config.json"
    found = read_json(path).get("eos_token_id") if path.is_file() else None
    if found is None:
        found = checkpoint.config.get("eos_token_id")
    return found if found is None or isinstance(found, int) else [int(id) for id in found]
