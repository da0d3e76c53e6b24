"""Import pyarrow, which tables need and the runtime does without."""

from typing import Any

from bertrt.errors import InputError

__all__ = ["import_arrow"]


def import_arrow() -> Any:
    """Return the module pyarrow, with its submodules compute and parquet.

    Raises InputError if it cannot be imported.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"tables need pyarrow, which cannot be imported ({error}): install it with "
            "pip install 'bertrt[batch]'"
        ) from error
    return pyarrow
