"""Programmatic dependent launch: a kernel is launched while the one before it still runs.

Every kernel waits for its predecessor before it reads or writes anything, so only the launch itself
overlaps. It needs a Hopper GPU or a newer one. It is off: no GPU has measured it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import triton
import triton.language as tl

__all__ = ["dependent_launches", "launch_options", "wait_for_predecessor"]

_enabled = False


@triton.jit
def wait_for_predecessor(DEPENDENT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Wait for the kernel before, then let the one after be launched; the first thing in a kernel.

    DEPENDENT is whether this kernel was launched in this way.
    """
    if DEPENDENT:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


def launch_options() -> dict[str, bool]:
    """Return options for the launch of a kernel that begins with `wait_for_predecessor`."""
    if _enabled:
        return {"DEPENDENT": True, "launch_pdl": True}
    return {"DEPENDENT": False}


@contextmanager
def dependent_launches() -> Iterator[None]:
    """Launch kernels in this way, in all threads; for comparisons."""
    global _enabled
    _enabled = True
    try:
        yield
    finally:
        _enabled = False
