"""Bound the characters of texts before they are tokenized, which holds the interpreter's lock.

The bound is that of Text Embeddings Inference: 250 characters for each token that the model reads.
A text that is cut there keeps its answer wherever each of its tokens, with the blanks beside it,
has fewer than 250 characters. A cut changes the tokens of the word that it falls into, and those
are fewer than 250 characters from it. The tokens that the model reads end earlier: two of them are
special, so the text's own leave 500 characters. Of a pair whose texts are both longer than the
model reads, the longer one gets the odd token: that alone may go to the other text.
"""

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

from bertrt.heads.base import TokenIds
from bertrt.serving.errors import HttpError

__all__ = ["bound_options", "bound_texts", "count_characters", "most_characters"]

_PER_TOKEN = 250


def most_characters(max_length: int) -> int:
    """Return the most characters of a text for a model that reads so many tokens."""
    return _PER_TOKEN * max_length


def count_characters(item: Any) -> int:
    """Return the characters of an input, all its texts counted; a token id counts as one."""
    if isinstance(item, TokenIds):
        return len(item.ids)
    parts = item.values() if isinstance(item, Mapping) else item
    count = 0
    for part in parts if isinstance(item, (list, tuple, Mapping)) else (item,):
        # A list is one of choices; what is nested deeper is no input.
        texts = part if isinstance(part, list) else (part,)
        count += sum(len(text) for text in texts if isinstance(text, str))
    return count


def bound_texts(inputs: Sequence[Any], most: int, side: str | None) -> tuple[list[Any], int]:
    """Return inputs without what is above the bound, and how many were cut.

    Args:
        inputs: texts, pairs of texts, and objects and lists of texts; others stay as they are.
        most: the most characters of a text; of a list, which is never cut, of all its texts.
        side: the side that truncation cuts; None if it is off.

    Raises HttpError for what is too long and cannot be cut.
    """
    bounded = [_bound(item, most, side) for item in inputs]
    cut = sum(one is not item for one, item in zip(bounded, inputs, strict=True))
    return bounded, cut


def bound_options(options: Mapping[str, Any], most: int) -> None:
    """Raise HttpError for options with texts that are too long, such as a label."""
    for name, value in options.items():
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and len(text) > most:
                raise _too_long(f"`{name}`", len(text), most)


def _bound(item: Any, most: int, side: str | None) -> Any:
    """Return an input, or a new one if a text of it was cut."""
    if isinstance(item, str):
        if len(item) <= most:
            return item
        if side is None:
            raise _too_long("a text", len(item), most)
        return item[-most:] if side == "left" else item[:most]
    if isinstance(item, tuple):
        parts = tuple(_bound(part, most, side) for part in item)
        return item if all(map(is_, parts, item)) else parts
    if isinstance(item, Mapping):
        fields = {name: _bound(part, most, side) for name, part in item.items()}
        return item if all(map(is_, fields.values(), item.values())) else fields
    if isinstance(item, list):
        size = sum(len(part) for part in item if isinstance(part, str))
        if size > most:
            raise _too_long("a list of texts", size, most)
    return item


def _too_long(what: str, size: int, most: int) -> HttpError:
    return HttpError(422, f"{what} has {size} characters and the limit is {most}: shorten it")
