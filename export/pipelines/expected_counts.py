"""The check that ends every list of fusions: as many of each operator as the config calls for."""

from collections.abc import Mapping

from bertrt.errors import ExportError

__all__ = ["check_counts"]


def check_counts(
    found: Mapping[str, int], expected: Mapping[str, int], target: str, class_name: str
) -> None:
    """Raise ExportError for the first operator that a graph has too few or too many of.

    Args:
        found: each operator to how many of it there are; 0 for those that are left out.
        expected: the same, as it must be. Operators that it does not name may be there.
        target: the target's name, for the message.
        class_name: the head's, for the message.
    """
    for name, number in expected.items():
        if found.get(name, 0) != number:
            raise ExportError(
                f"the {target} graph of {class_name} has {found.get(name, 0)} x {name} where its "
                f"config calls for {number}: this version of torch or transformers traces in a "
                "form that bertrt does not know, so install the versions that it was tested with"
            )
