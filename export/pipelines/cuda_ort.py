"""The fusions for ONNX Runtime's CUDA provider, in order, and what must be there after them.

The graph has no optional inputs: its CUDA graphs hold what was computed from such a flag when they
were captured, and answer by it ever after. Nor has it rows that are picked by their numbers, whose
count the host would wait for.
"""

from collections import Counter
from typing import Any

import onnx_ir as ir

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.embed_layer_norm import fuse_embed_layer_norm
from bertrt.export.fusion.embeddings import add_embeddings
from bertrt.export.fusion.gelu import fuse_gelus
from bertrt.export.fusion.multi_head_attention import fuse_multi_head_attention
from bertrt.export.fusion.prune_last_layer import prune_last_layer
from bertrt.export.fusion.qkv import pack_qkv
from bertrt.export.fusion.reshape import make_reshapes_static
from bertrt.export.fusion.skip_layer_norm import fuse_skip_layer_norms
from bertrt.export.fusion.weights import fold_transposed_weights
from bertrt.export.graph.cleanup import clean
from bertrt.export.heads import Head
from bertrt.export.pipelines.cpu import FIRST_TOKEN_TASKS, TRANSFORM_TASKS
from bertrt.export.pipelines.expected_counts import check_counts

__all__ = ["fuse_for_cuda"]

# transformers' names of the exact Gelu, and of the ways to write the one by tanh.
_EXACT = ("gelu", "gelu_python")
_TANH = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate")


def fuse_for_cuda(model: ir.Model, config: Any, head: Head) -> dict[str, int]:
    """Rewrite a traced graph, without a key/value cache, in place, in float32.

    Args:
        model: what `trace` made.
        config: the checkpoint's BertConfig.
        head: the head that was traced.

    Returns how many of each operator that matters the graph holds now.

    Raises ExportError when that is not what a model of this config must hold.
    """
    fold_transposed_weights(model)
    make_reshapes_static(model)
    fuse_attention(model)
    counts = {"PrunedLayer": prune_last_layer(model)}
    counts["Embedding"] = add_embeddings(model)
    counts["PackedQKV"] = pack_qkv(model)
    fuse_multi_head_attention(model)
    fuse_embed_layer_norm(model)
    fuse_skip_layer_norms(model)
    fuse_gelus(model)
    clean(model)

    found = Counter(node.op_type for node in model.graph)
    pooled = "pooler_output" in [value.name for value in model.graph.outputs]
    expected = _expected(config, head, pooled=pooled)
    counts.update({name: found[name] for name in expected if name not in counts})
    check_counts(counts, expected, "cuda", head.class_name)
    return {name: number for name, number in counts.items() if number}


def _expected(config: Any, head: Head, *, pooled: bool) -> dict[str, int]:
    """Each operator to how many of it there must be.

    `pooled` says that a BertModel has a pooler.
    """
    layers = int(config.num_hidden_layers)
    transforms = int(head.task in TRANSFORM_TASKS)
    return {
        "EmbedLayerNormalization": 1,
        "PackedQKV": layers,
        "MultiHeadAttention": layers,
        "Attention": 0,
        "SkipLayerNormalization": 2 * layers,
        "LayerNormalization": transforms,
        "BiasGelu": (layers + transforms) * (config.hidden_act in _EXACT),
        "FastGelu": (layers + transforms) * (config.hidden_act in _TANH),
        "PrunedLayer": int(head.task in FIRST_TOKEN_TASKS),
        "Embedding": (2 + pooled) * (head.task == "feature-extraction"),
    }
