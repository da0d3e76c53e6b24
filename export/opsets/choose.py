"""Which opset a graph is written in."""

from bertrt.artifact.targets import Target
from bertrt.errors import ExportError
from bertrt.export.tracing.torch_export import OPSET

__all__ = ["OLDEST", "choose_opset"]

# The first opset with LayerNormalization.
OLDEST = 17


def choose_opset(opset: int | None, target: Target, default: int = OPSET) -> int:
    """Return the opset of a graph for a target.

    Args:
        opset: what the caller asked for; None for the default.
        target: the target. Only graphs in standard operators alone can be of an older opset.
        default: the layout's default.

    Raises ExportError for an opset that bertrt does not write, or that the target cannot have.
    """
    if opset is None:
        return default
    if isinstance(opset, bool) or not isinstance(opset, int) or not OLDEST <= opset <= OPSET:
        raise ExportError(
            f"the opset is {opset!r}: bertrt writes graphs of the opsets {OLDEST} to {OPSET}"
        )
    if opset != OPSET and target.device != "any":
        raise ExportError(
            f"a graph for the device {target.device!r} needs opset {OPSET}, and opset {opset} was "
            "asked for: leave out --opset, or pass --device any for standard operators only"
        )
    return opset
