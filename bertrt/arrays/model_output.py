"""The outputs of a run: a dict with attributes, like transformers' output classes."""

from typing import Any

__all__ = ["ModelOutput"]


class ModelOutput(dict[str, Any]):
    """A dict of arrays whose items are attributes too: `output["logits"]`, `output.logits`.

    A whole number or a slice selects values in order, as in transformers: `output[0]`.
    `hidden_states` and `attentions`, if the graph gives them, are tuples with an array a layer.
    """

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, slice)):
            return self.to_tuple()[key]
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"this run gave no output {name!r}, only {', '.join(self)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values in order."""
        return tuple(self.values())
