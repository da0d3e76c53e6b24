"""Mean pooling as nodes of an ONNX graph, so that a GPU returns one vector for each text.

Otherwise all hidden states are copied to the host: 50 MB of float32 at 128x128 with BERT-base.
People who serve embeddings pool on the GPU, and so does every other GPU contender that can.
"""

from typing import Any

__all__ = ["EMBEDDING", "add_mean_pooling"]

EMBEDDING = "sentence_embedding"


def add_mean_pooling(model: Any) -> None:
    """Replace the outputs of an onnx.ModelProto by `sentence_embedding`, float32 [B, H], length 1.

    Args:
        model: has the input attention_mask [B, S], the output last_hidden_state, float32
            [B, S, H], and an opset below 18; changed in place.
    """
    from onnx import TensorProto, helper

    def node(operator: str, *inputs: str, output: str, **attributes: Any) -> None:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))

    graph = model.graph
    hidden = graph.output[0].type.tensor_type.shape.dim[2]
    graph.initializer.append(helper.make_tensor("pooling_axis", TensorProto.INT64, [1], [1]))
    # A sum is enough: normalization cancels the divisor of the mean.
    node("Cast", "attention_mask", output="pooling_mask", to=TensorProto.FLOAT)
    node("Unsqueeze", "pooling_mask", "pooling_axis", output="pooling_weights")
    node("MatMul", "pooling_weights", "last_hidden_state", output="pooling_sums")
    node("Squeeze", "pooling_sums", "pooling_axis", output="pooling_sum")
    node("ReduceL2", "pooling_sum", output="pooling_length", axes=[1], keepdims=1)
    node("Div", "pooling_sum", "pooling_length", output=EMBEDDING)
    shape = ["batch", hidden.dim_value or hidden.dim_param]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, shape))
