"""From a checkpoint to an artifact: everything that needs PyTorch.

    from bertrt.export import export
    export("google-bert/bert-base-uncased", "out", task="fill-mask")

Nothing heavy is imported until a name is used, so that a process that finds this folder by
another name (`export`, from the repository root) is not harmed.
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
