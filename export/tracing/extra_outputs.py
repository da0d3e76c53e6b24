"""What is inside the model and may be asked for: hidden states and attentions, as graph outputs."""

from typing import Any

from bertrt.errors import ExportError
from bertrt.export.heads import Head

__all__ = ["check_internals", "internals"]


def internals(config: Any, head: Head, *, hidden_states: bool, attentions: bool) -> tuple[str, ...]:
    """The names of the outputs beside a head's own, in order.

    Args:
        config: the checkpoint's BertConfig, of L layers.
        head: whose outputs these are beside.
        hidden_states: `hidden_states.0` to `.L`, each float32 [B, S, H]: the embeddings, and what
            each layer makes of them. A BertModel's last one is its `last_hidden_state` and has no
            second name.
        attentions: `attentions.0` to `.L-1`, each float32 [B, N, S, S]: the weights with which a
            token (third axis) looks at the others, which add up to 1.
    """
    layers = int(config.num_hidden_layers)
    count = layers if "last_hidden_state" in head.outputs else layers + 1
    states = [f"hidden_states.{i}" for i in range(count)] if hidden_states else []
    weights = [f"attentions.{i}" for i in range(layers)] if attentions else []
    return (*states, *weights)


def check_internals(device: str, dtype: str, *, asked: bool) -> None:
    """Raise ExportError where a graph cannot give internals."""
    if asked and (device not in ("cpu", "any") or dtype != "float32"):
        raise ExportError(
            f"hidden states and attentions are given in float32 on cpu, not in {dtype} on "
            f"{device}: leave --device and --dtype out, or --output-hidden-states and "
            "--output-attentions"
        )
