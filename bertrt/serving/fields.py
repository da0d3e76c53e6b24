"""Read the fields of a JSON body: each is checked, and an error names it, never its text."""

from collections.abc import Collection, Mapping
from typing import Any

from bertrt.serving.errors import HttpError, invalid

__all__ = ["Fields", "check_count"]

_MISSING = object()


class Fields:
    """The fields of a JSON object. A field that is null counts as missing."""

    def __init__(self, body: Any, *, status: int = 422) -> None:
        """Read an object; errors have this status."""
        self._status = status
        if not isinstance(body, Mapping):
            self._fail("the body is not a JSON object", None)
        self._body: Mapping[str, Any] = body

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._body.get(name) is not None

    def any(self, name: str) -> Any:
        """Return a required field of any type."""
        if not self.has(name):
            self._fail(f"`{name}` is missing", name)
        return self._body[name]

    def string(self, name: str, default: Any = _MISSING) -> Any:
        """Return a string; required without a default."""
        return self._read(name, default, lambda value: isinstance(value, str), "a string")

    def flag(self, name: str, default: bool | None) -> Any:
        """Return true or false."""
        return self._read(name, default, lambda value: isinstance(value, bool), "true or false")

    def whole(self, name: str, default: int | None, *, least: int = 1) -> Any:
        """Return a whole number of at least `least`."""

        def is_whole(value: Any) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and value >= least

        return self._read(name, default, is_whole, f"a whole number of at least {least}")

    def choice(self, name: str, default: str | None, choices: Collection[str]) -> Any:
        """Return one of some strings."""
        known = ", ".join(choices)
        return self._read(
            name, default, lambda value: isinstance(value, str) and value in choices, known
        )

    def strings(self, name: str, most: int) -> list[str]:
        """Return a required list of strings, of which there are at most so many."""
        value = self.any(name)
        if isinstance(value, list):
            check_count(len(value), most)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self._fail(f"`{name}` has to be a list of strings", name)
        strings: list[str] = value
        return strings

    def object(self, name: str) -> "Fields":
        """Return the fields of an object, which may be missing."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, Mapping):
            self._fail(f"`{name}` has to be an object", name)
        return Fields(value or {}, status=self._status)

    def items(self) -> dict[str, Any]:
        """Return the fields that are not null."""
        return {name: value for name, value in self._body.items() if value is not None}

    def _read(self, name: str, default: Any, is_valid: Any, what: str) -> Any:
        value = self._body.get(name)
        if value is None:
            return self.any(name) if default is _MISSING else default
        if not is_valid(value):
            self._fail(f"`{name}` has to be {what}", name)
        return value

    def _fail(self, message: str, name: str | None) -> None:
        if self._status == 422:
            invalid(message, name)
        raise HttpError(self._status, message, name)


def check_count(inputs: int, most: int) -> None:
    """Raise HttpError for more inputs than a request may have."""
    if inputs > most:
        raise HttpError(422, f"batch size {inputs} > maximum allowed batch size {most}")
