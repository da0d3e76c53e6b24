"""The optional outputs with one array a layer: hidden states and attention weights."""

from collections.abc import Collection
from typing import Any

from bertrt.artifact.graph_io import ATTENTIONS, HIDDEN_STATES
from bertrt.errors import ExportError
from bertrt.export.heads import ENCODERS, HeadSpec

__all__ = [
    "check_extra_outputs",
    "extra_outputs",
    "has_attentions",
    "has_hidden_states",
    "split_name",
]


def extra_outputs(
    config: Any, head: HeadSpec, *, hidden_states: bool, attentions: bool
) -> tuple[str, ...]:
    """Return the names of the requested outputs, in order; the head's own come before them.

    Args:
        config: the checkpoint's BertConfig, of L layers.
        head: the exported head.
        hidden_states: `hidden_states.0` to `.L`, each float32 [B, S, H]: the embeddings, and the
            output of each layer. A BertModel's last one is its `last_hidden_state`, and is not
            repeated.
        attentions: `attentions.0` to `.L-1`, each float32 [B, N, S, S]: the weights with which a
            token (third axis) attends to the others; they sum to 1.

    Raises ExportError for a task whose model does not give them.
    """
    if head in ENCODERS and (hidden_states or attentions):
        raise ExportError(
            f"{head.task} has no hidden states and attentions: leave out --output-hidden-states "
            "and --output-attentions"
        )
    layers = int(config.num_hidden_layers)
    count = layers if "last_hidden_state" in head.outputs else layers + 1
    states = [f"{HIDDEN_STATES}.{i}" for i in range(count)] if hidden_states else []
    weights = [f"{ATTENTIONS}.{i}" for i in range(layers)] if attentions else []
    return (*states, *weights)


def has_hidden_states(names: Collection[str]) -> bool:
    """Whether hidden states are among these outputs."""
    return f"{HIDDEN_STATES}.0" in names


def has_attentions(names: Collection[str]) -> bool:
    """Whether attention weights are among these outputs."""
    return f"{ATTENTIONS}.0" in names


def split_name(name: str) -> tuple[str, int]:
    """Split `hidden_states.3` into its kind, as transformers names the list, and its index."""
    kind, _, index = name.partition(".")
    return kind, int(index)


def check_extra_outputs(device: str, dtype: str, *, requested: bool) -> None:
    """Raise ExportError if they are requested of a graph that cannot have them."""
    if requested and (device not in ("cpu", "any") or dtype != "float32"):
        raise ExportError(
            f"hidden states and attentions are given in float32 on cpu, not in {dtype} on "
            f"{device}: leave out --device and --dtype, or --output-hidden-states and "
            "--output-attentions"
        )
