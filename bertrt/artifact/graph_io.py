"""Names of the graph's inputs and outputs, which exporter, engines and runtime share.

The model's own inputs and outputs have transformers' names. These are the ones that bertrt adds,
and the parts of names that are numbered by layer.
"""

__all__ = [
    "ATTENTIONS",
    "FIRST_TOKEN_ONLY",
    "HIDDEN_STATES",
    "LAYER_OUTPUTS",
    "MASKED_ONLY",
    "PAST",
    "PRESENT",
    "SENTENCE_EMBEDDING",
    "SPARSE_EMBEDDING",
    "TOKEN_EMBEDDINGS",
    "TOKEN_FLAGS",
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

# Optional output, float32 [B, D]: one vector a text, the model's own.
SENTENCE_EMBEDDING = "sentence_embedding"

# Output of sparse-embedding, float32 [B, V]: the weight of each token of the vocabulary.
SPARSE_EMBEDDING = "sparse_embedding"

# Output of multi-vector-embedding, float32 [B, S, D]: one vector a token.
TOKEN_EMBEDDINGS = "token_embeddings"
