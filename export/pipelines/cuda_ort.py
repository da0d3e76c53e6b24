"""The fusions for ONNX Runtime's CUDA provider, in order, and the operators after them.

The graph has no optional inputs: a CUDA graph replays what was computed from such a flag when it
was captured. Nor does it select rows by their numbers: the host would have to wait for the count.
"""

from collections import Counter
from typing import Any

import onnx_ir as ir

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.embed_layer_norm import fuse_embed_layer_norm
from bertrt.export.fusion.gelu import fuse_gelus
from bertrt.export.fusion.multi_head_attention import fuse_multi_head_attention
from bertrt.export.fusion.pack_qkv import pack_qkv
from bertrt.export.fusion.prune_last_layer import prune_last_layer
from bertrt.export.fusion.sentence_embedding import add_sentence_embedding
from bertrt.export.fusion.skip_layer_norm import fuse_skip_layer_norms
from bertrt.export.fusion.static_reshapes import make_reshapes_static
from bertrt.export.fusion.transpose_weights import fold_transposed_weights
from bertrt.export.graph.cleanup import clean
from bertrt.export.heads import FIRST_TOKEN_TASKS, HeadSpec
from bertrt.export.pipelines.expected_counts import check_counts
from bertrt.export.pipelines.structure import structure_of
from bertrt.export.vector_modules import VectorModules

__all__ = ["fuse_for_cuda_ort"]

# transformers' names of the exact Gelu, and of its tanh approximations.
_EXACT_GELUS = ("gelu", "gelu_python")
_TANH_GELUS = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate")


def fuse_for_cuda_ort(
    model: ir.Model, config: Any, head: HeadSpec, *, vectors: VectorModules | None = None
) -> dict[str, int]:
    """Fuse a traced graph without a key/value cache, in place, in float32.

    Args:
        model: the graph that `trace` returned.
        config: the checkpoint's BertConfig.
        head: the head that was traced.
        vectors: what makes a text's vector of its hidden states; None for other heads.

    Returns the number of each relevant operator in the graph.

    Raises ExportError if these are not the numbers that the config requires.
    """
    fold_transposed_weights(model)
    make_reshapes_static(model)
    fuse_attention(model)
    counts = {"PrunedLayer": prune_last_layer(model)}
    counts["PackedQKV"] = pack_qkv(model)
    fuse_multi_head_attention(model)
    fuse_embed_layer_norm(model)
    fuse_skip_layer_norms(model)
    fuse_gelus(model)
    counts["SentenceEmbedding"] = add_sentence_embedding(model, vectors)
    clean(model)

    found = Counter(node.op_type for node in model.graph)
    expected = _expected_counts(config, head, vectors)
    counts.update({name: found[name] for name in expected if name not in counts})
    check_counts(counts, expected, "cuda", head.task)
    return {name: number for name, number in counts.items() if number}


def _expected_counts(config: Any, head: HeadSpec, vectors: VectorModules | None) -> dict[str, int]:
    """Return the number of each operator that the graph must have."""
    structure = structure_of(config, head, vectors)
    layers = structure.layers
    return {
        "EmbedLayerNormalization": 1,
        "PackedQKV": layers,
        "MultiHeadAttention": layers,
        "Attention": 0,
        "SkipLayerNormalization": 2 * layers,
        "LayerNormalization": structure.later_norms,
        "BiasGelu": sum(name in _EXACT_GELUS for name in structure.activations),
        "FastGelu": sum(name in _TANH_GELUS for name in structure.activations),
        "PrunedLayer": int(head.task in FIRST_TOKEN_TASKS),
        "SentenceEmbedding": int(vectors is not None),
    }
