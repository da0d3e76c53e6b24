"""What a step knows of the visit, and where it writes what it finds."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["NO_GPU", "Visit", "add_row"]

# The exit status of a step that found no GPU; no other step can do anything then.
NO_GPU = 4


@dataclass(frozen=True)
class Visit:
    """One step's view of a visit.

    Attributes:
        out: the folder for what is found.
        work: the folder for models and graphs, which are deleted at the end.
        deadline: when the step is ended, by `time.time`, which all processes share.
        dry_run: whether to do everything on the CPU at tiny sizes, with times that mean nothing.
    """

    out: Path
    work: Path
    deadline: float
    dry_run: bool = False

    def add(self, step: str, **found: Any) -> None:
        """Write a row of what this step found, and print it into the log."""
        add_row(self.out, step=step, **found)
        print(json.dumps(found, default=float), flush=True)

    def measure(self, step: str, what: Callable[[], Mapping[str, Any]], **known: Any) -> bool:
        """Write a row of what is known and of what `what` returns; return whether it did not fail.

        The row of one that fails has a `failure`, and the step can go on with the next.
        """
        try:
            found = dict(what())
        except Exception as error:
            traceback.print_exc()
            self.add(step, **known, failure=f"{type(error).__name__}: {error}")
            return False
        self.add(step, **known, **found)
        return True

    def seconds_left(self) -> float:
        """Return the seconds until the step is ended."""
        return self.deadline - time.time()


def add_row(out: Path, **fields: Any) -> None:
    """Add a line of JSON to `out`/rows.jsonl at once: a crash afterwards does not lose it."""
    with (out / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields, default=float) + "\n")
