"""What an operator of the dialect is: its signature, where it runs, and its meaning in numpy."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

__all__ = ["DOMAIN", "VERSION", "Operator", "Place", "operator"]

DOMAIN = "bertrt"
VERSION = 1


class Place(Enum):
    """Which part of a run an operator belongs to.

    A graph is three zones, one after the other. ENTRY turns the padded inputs into packed
    integers, whose sizes are known only then. DEVICE is all the arithmetic, on arrays whose sizes
    depend on T, R and B alone. EXIT gives the results the padded shape that the caller expects.
    """

    ENTRY = "entry"
    DEVICE = "device"
    EXIT = "exit"


@dataclass(frozen=True)
class Operator:
    """An operator: its ONNX name, its inputs, outputs and attributes, and its reference.

    `optional` are the inputs that a node may leave out; `attributes` have their defaults, None
    where a node has to give one. `reference` takes and gives numpy arrays, and is what the
    operator means.
    """

    name: str
    place: Place
    inputs: tuple[str, ...]
    optional: frozenset[str]
    attributes: dict[str, Any]
    outputs: tuple[str, ...]
    reference: Callable[..., Any]

    def op_run(self) -> type[OpRun]:
        """The operator for `onnx.reference.ReferenceEvaluator(new_ops=[…])`."""
        reference = self.reference

        def run(_: OpRun, *inputs: Any, **attributes: Any) -> tuple[np.ndarray, ...]:
            results = reference(*inputs, **attributes)
            return results if isinstance(results, tuple) else (results,)

        return type(self.name, (OpRun,), {"op_domain": DOMAIN, "_run": run})


def operator(place: Place, *outputs: str) -> Callable[[Callable[..., Any]], Operator]:
    """Make an operator of its reference.

    The function's positional parameters are the inputs (those that default to None may be left
    out), its keyword-only ones the attributes, and its name in camel case the operator's.
    """

    def make(reference: Callable[..., Any]) -> Operator:
        parameters = inspect.signature(reference).parameters.values()
        inputs = [one for one in parameters if one.kind is not one.KEYWORD_ONLY]
        return Operator(
            name="".join(part.capitalize() for part in reference.__name__.split("_")),
            place=place,
            inputs=tuple(one.name for one in inputs),
            optional=frozenset(one.name for one in inputs if one.default is None),
            attributes={
                one.name: None if one.default is one.empty else one.default
                for one in parameters
                if one.kind is one.KEYWORD_ONLY
            },
            outputs=outputs,
            reference=reference,
        )

    return make
