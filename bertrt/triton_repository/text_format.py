"""Write protobuf's text format, in which Triton reads a model's configuration."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["Message", "Word", "write_message"]


class Word(str):
    """The name of an enum's value, which is written without quotes."""

    __slots__ = ()


# A message: its fields by name. A field is a Word, string, bool, integer or message. A sequence of
# these is a repeated field; an empty one is left out.
Message: TypeAlias = Mapping[str, Any]


def write_message(message: Message) -> str:
    """Return the text of a message, a field a line."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Message) -> Iterator[str]:
    for name, value in message.items():
        several = isinstance(value, Sequence) and not isinstance(value, str)
        if several and all(isinstance(item, int) for item in value):
            if value:
                yield f"{name}: [{', '.join(map(_scalar, value))}]"
            continue
        for item in value if several else [value]:
            if isinstance(item, Mapping):
                yield f"{name} {{"
                yield from (f"  {line}" for line in _lines(item))
                yield "}"
            else:
                yield f"{name}: {_scalar(item)}"


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{"".join(map(_escape, value.encode()))}"'
    return str(value)


def _escape(byte: int) -> str:
    """Return a byte as it stands between quotes."""
    if byte in b'"\\' or not 0x20 <= byte < 0x7F:
        return f"\\{byte:03o}"
    return chr(byte)
