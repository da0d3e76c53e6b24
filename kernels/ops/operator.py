"""The definition of an operator: its signature, its stage and its numpy reference."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

__all__ = ["DOMAIN", "VERSION", "Operator", "Stage", "operator"]

DOMAIN = "bertrt"
VERSION = 1


class Stage(Enum):
    """The three stages of a run, in order.

    ENTRY packs the padded inputs into integers, whose sizes are known only then. DEVICE does all
    the arithmetic, on arrays whose sizes depend on T, R and B alone. EXIT gives the results the
    padded shape that the caller expects.
    """

    ENTRY = "entry"
    DEVICE = "device"
    EXIT = "exit"


@dataclass(frozen=True)
class Operator:
    """An operator: its ONNX name, inputs, outputs, attributes and reference.

    `optional` names the inputs that a node may omit. `attributes` maps each attribute to its
    default, None if a node must set it. `reference` defines the operator on numpy arrays.
    """

    name: str
    stage: Stage
    inputs: tuple[str, ...]
    optional: frozenset[str]
    attributes: dict[str, Any]
    outputs: tuple[str, ...]
    reference: Callable[..., Any]

    def op_run(self) -> type[OpRun]:
        """Return the operator for `onnx.reference.ReferenceEvaluator(new_ops=[…])`."""
        reference = self.reference

        def run(_: OpRun, *inputs: Any, **attributes: Any) -> tuple[np.ndarray, ...]:
            results = reference(*inputs, **attributes)
            return results if isinstance(results, tuple) else (results,)

        return type(self.name, (OpRun,), {"op_domain": DOMAIN, "_run": run})


def operator(stage: Stage, *outputs: str) -> Callable[[Callable[..., Any]], Operator]:
    """Define an operator by its reference.

    The function's positional parameters are the inputs (those that default to None are optional),
    its keyword-only parameters are the attributes, and its name in camel case is the operator's.
    """

    def define(reference: Callable[..., Any]) -> Operator:
        parameters = inspect.signature(reference).parameters.values()
        inputs = [param for param in parameters if param.kind is not param.KEYWORD_ONLY]
        return Operator(
            name="".join(part.capitalize() for part in reference.__name__.split("_")),
            stage=stage,
            inputs=tuple(param.name for param in inputs),
            optional=frozenset(param.name for param in inputs if param.default is None),
            attributes={
                param.name: None if param.default is param.empty else param.default
                for param in parameters
                if param.kind is param.KEYWORD_ONLY
            },
            outputs=outputs,
            reference=reference,
        )

    return define
