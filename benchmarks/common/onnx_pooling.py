"""Mean pooling as nodes of an ONNX graph, so that a GPU hands out one vector a text.

Without them all hidden states go to the host, 50 MB of float32 at 128x128 of BERT-base. Who serves
embeddings pools on the GPU; and so does every other contender there that can.
"""

from typing import Any

__all__ = ["EMBEDDING", "add_mean_pooling"]

EMBEDDING = "sentence_embedding"


def add_mean_pooling(model: Any) -> None:
    """Give an onnx.ModelProto the output `sentence_embedding`, float32 [B, H] of length 1.

    Args:
        model: has the input attention_mask [B, S], the output last_hidden_state, float32
            [B, S, H], and operators of an opset below 18; changed in place. The output goes.
    """
    from onnx import TensorProto, helper

    def node(operator: str, *inputs: str, output: str, **attributes: Any) -> None:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))

    graph = model.graph
    hidden = graph.output[0].type.tensor_type.shape.dim[2]
    graph.initializer.append(helper.make_tensor("pooling_axis", TensorProto.INT64, [1], [1]))
    # The mean's divisor would cancel against the length.
    node("Cast", "attention_mask", output="pooling_mask", to=TensorProto.FLOAT)
    node("Unsqueeze", "pooling_mask", "pooling_axis", output="pooling_weights")
    node("MatMul", "pooling_weights", "last_hidden_state", output="pooling_sums")
    node("Squeeze", "pooling_sums", "pooling_axis", output="pooling_sum")
    node("ReduceL2", "pooling_sum", output="pooling_length", axes=[1], keepdims=1)
    node("Div", "pooling_sum", "pooling_length", output=EMBEDDING)
    shape = ["batch", hidden.dim_value or hidden.dim_param]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, shape))
