"""A cache of the most recently used values, bounded by their number and their total size."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["LruCache"]

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """Keeps the most recently used values and drops the least recently used."""

    def __init__(self, max_entries: int, max_size: int) -> None:
        """Keep at most `max_entries` values, with a total size of at most `max_size`."""
        self._max_entries, self._max_size, self._size = max_entries, max_size, 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """Return the key's value and mark it as used; None if it is not here."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def fits(self, size: int) -> bool:
        """Return whether a value of this size can be kept at all."""
        return size <= self._max_size

    def put(self, key: Key, value: Value, size: int) -> None:
        """Add a value that fits, under a new key."""
        self._entries[key] = (value, size)
        self._size += size
        while len(self._entries) > self._max_entries or self._size > self._max_size:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed

    def __len__(self) -> int:
        return len(self._entries)
