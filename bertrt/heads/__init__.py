"""The nine heads, one file each; `HEADS` is the list."""

from bertrt.heads.base import Head
from bertrt.heads.fill_mask import FillMask

__all__ = ["HEADS", "Head"]

HEADS: dict[str, type[Head]] = {head.task: head for head in (FillMask,)}
