"""Export checkpoints to artifacts: everything that needs PyTorch.

    from bertrt.export import export
    export("google-bert/bert-base-uncased", "out", task="fill-mask")

PyTorch is imported when `export` is first used, not before: a process may find this folder under
another name (`export`, from the repository root) and import it by accident.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertrt.export.exporter import export as export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    if name == "export":
        from bertrt.export.exporter import export

        return export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
