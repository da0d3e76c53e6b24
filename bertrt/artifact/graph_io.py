"""Names of the graph's inputs and outputs, which exporter, engines and runtime share.

The model's own inputs and outputs have transformers' names. These are the ones that bertrt adds,
and the parts of names that are numbered by layer.
"""

__all__ = [
    "ATTENTIONS",
    "EMBEDDINGS",
    "FIRST_TOKEN_ONLY",
    "HIDDEN_STATES",
    "LAYER_OUTPUTS",
    "MASKED_ONLY",
    "PAST",
    "PRESENT",
    "TOKEN_FLAGS",
    "embedding_output",
]

# Optional inputs, bool []: compute the first token's outputs only, or those of mask tokens.
FIRST_TOKEN_ONLY = "first_token_only"
MASKED_ONLY = "masked_only"

# Which tokens' outputs a head reads, and the optional input that skips the other tokens.
TOKEN_FLAGS: dict[str, str | None] = {
    "all": None,
    "first": FIRST_TOKEN_ONLY,
    "masks": MASKED_ONLY,
}

# Prefixes of the key/value cache: `past_key_values.{layer}.key` in, `present.{layer}.key` out.
PAST = "past_key_values"
PRESENT = "present"

# Outputs with one array a layer, `hidden_states.0` and so on, where the export asked for them.
HIDDEN_STATES = "hidden_states"
ATTENTIONS = "attentions"
LAYER_OUTPUTS = (HIDDEN_STATES, ATTENTIONS)


def embedding_output(pooling: str) -> str:
    """The name of the output that holds the pooled vector, scaled to length 1."""
    return f"{pooling}_embedding"


# Optional outputs, float32 [B, H].
EMBEDDINGS = tuple(embedding_output(pooling) for pooling in ("mean", "cls", "pooler"))
