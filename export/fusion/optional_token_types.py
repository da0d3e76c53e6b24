"""Make `token_type_ids` optional: zeros by default.

Text generation has no second segment, and Optimum's ORTModelForCausalLM does not pass token types
on. Tokenizers of encoders with one token type give none. An ONNX input that is also an initializer
has a default value; here one zero, which broadcasts.
"""

import numpy as np
import onnx_ir as ir

__all__ = ["make_token_types_optional"]

_NAME = "token_type_ids"


def make_token_types_optional(model: ir.Model) -> None:
    """Give `token_type_ids` int64 [B, S] the default [[0]], in place.

    Its axes get names of their own, so that ONNX Runtime does not plan memory as if the default
    had the batch's shape. Nodes that read the batch's shape from it read it from `input_ids`.
    """
    graph = model.graph
    types = next(value for value in graph.inputs if value.name == _NAME)
    ids = next(value for value in graph.inputs if value.name == "input_ids")
    for node in types.consumers():
        if node.op_type == "Shape":
            node.replace_input_with(0, ids)
        else:
            node.outputs[0].shape = None
    types.shape = ir.Shape(["types_batch", "types_sequence"])
    types.const_value = ir.tensor(np.zeros((1, 1), np.int64), name=_NAME)
    graph.register_initializer(types)
