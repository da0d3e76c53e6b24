"""The check at the end of each pipeline: the graph has as many of each operator as expected."""

from collections.abc import Mapping

from bertrt.errors import ExportError

__all__ = ["check_counts"]


def check_counts(
    found: Mapping[str, int], expected: Mapping[str, int], target: str, task: str
) -> None:
    """Raise ExportError for the first operator that a graph has too few or too many of.

    Args:
        found: the number of each operator in the graph; operators left out count as 0.
        expected: the number that each must have. Other operators may have any number.
        target: the target's name, for the message.
        task: the head's task, for the message.
    """
    for name, number in expected.items():
        if found.get(name, 0) != number:
            raise ExportError(
                f"the {target} graph for {task} has {found.get(name, 0)} x {name}, but its "
                f"config requires {number}: this version of torch or transformers traces a graph "
                "that bertrt does not know, so install the versions that bertrt is tested with"
            )
