"""The texts of a column of pyarrow."""

from typing import Any

from bertrt.batch.arrow import import_arrow
from bertrt.errors import InputError

__all__ = ["check_text_type", "read_texts"]


def read_texts(column: Any, name: str) -> list[str | InputError | None]:
    """Return the texts of a column, with an error in place of one that is not UTF-8.

    Raises InputError for a column of anything but strings and nulls; `name` is what it is called.
    """
    check_text_type(column.type, name)
    try:
        texts: list[str | InputError | None] = column.to_pylist()
    except UnicodeDecodeError:
        return [_read_text(value) for value in column]
    return texts


def check_text_type(type: Any, name: str) -> None:
    """Raise InputError unless a column of this type can hold texts."""
    types = import_arrow().types
    kind = type.value_type if types.is_dictionary(type) else type
    known = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    if not any(is_kind(kind) for is_kind in known):
        raise InputError(f"the column {name!r} has {type}: give a column of strings")


def _read_text(value: Any) -> str | InputError | None:
    try:
        text: str | None = value.as_py()
    except UnicodeDecodeError as error:
        return InputError(f"the text is not UTF-8 ({error.reason} at byte {error.start})")
    return text
