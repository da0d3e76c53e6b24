"""Read the token that ends generation from generation_config.json or the config."""

from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.checkpoints.json_file import read_json

__all__ = ["eos_token_id"]


def eos_token_id(checkpoint: Checkpoint) -> int | list[int] | None:
    """Return the end-of-sequence token's id, or several; None if only the length ends a text.

    Raises ExportError for a damaged generation_config.json.
    """
    path = checkpoint.transformer_folder / "generation_config.json"
    found = read_json(path).get("eos_token_id") if path.is_file() else None
    if found is None:
        found = checkpoint.config.get("eos_token_id")
    return found if found is None or isinstance(found, int) else [int(id) for id in found]
