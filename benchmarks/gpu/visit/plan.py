"""The steps of a visit, in order, and the seconds that each may take."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["STEPS", "Step", "choose"]


@dataclass(frozen=True)
class Step:
    """A module of `benchmarks.gpu.visit.steps`.

    Attributes:
        name: the module's name.
        seconds: when the step is ended, if it has not ended by itself.
        beside: whether it runs beside the others from the beginning, because it uses only the CPU.
    """

    name: str
    seconds: float
    beside: bool = False


# What decides most comes first: whether it runs and is right, then how fast it is and why.
STEPS = (
    Step("export", 300, beside=True),
    Step("facts", 40),
    Step("smoke", 70),
    Step("answers", 60),
    Step("latency", 60),
    Step("timeline", 40),
    Step("kernels", 60),
    Step("tests", 110),
    Step("peers", 60),
    Step("pairs", 70),
    Step("tune", 120),
    Step("contenders", 200),
)


def choose(names: Sequence[str] | None) -> tuple[Step, ...]:
    """Return the steps of these names in the order of `STEPS`; all for None.

    Raises ValueError for an unknown name.
    """
    known = [step.name for step in STEPS]
    for name in names or ():
        if name not in known:
            raise ValueError(f"no step is called {name!r}: choose from {', '.join(known)}")
    return tuple(step for step in STEPS if names is None or step.name in names)
