"""Build the graph of a model with its tokenizer in front: from texts to the model's outputs.

This is the counterpart of TFBertTokenizer. The operator, onnxruntime-extensions' BertTokenizer,
splits one text at a time; a Loop runs it over the batch, and the rows are padded afterwards.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from onnx import helper

from bertrt.tokenizer import Tokenizer

__all__ = ["ARRAYS", "DOMAIN", "tokenizer_graph", "with_tokenizer"]

DOMAIN = "ai.onnx.contrib"
# The model's inputs. The graph also outputs them: they say to which tokens its answers belong.
ARRAYS = ("input_ids", "attention_mask", "token_type_ids")

# The operator does not truncate pairs, so texts are truncated here as in the tokenizers library:
# the longer one first, and both equally if both are too long. A second text of "" is no text. The
# ids of all texts are concatenated, and scattered into rows at the end.
_TOKENIZE = """
<ir_version: 10, opset_import: ["": 23, "ai.onnx.contrib": 1]>
tokenize (string[batch] text) => (int64[batch, sequence] input_ids,
        int64[batch, sequence] attention_mask, int64[batch, sequence] token_type_ids)
{
    text_cls = Constant <value_ints = [%(cls)d]> ()
    text_sep = Constant <value_ints = [%(sep)d]> ()
    text_pad = Constant <value_ints = [%(pad)d]> ()
    text_most = Constant <value_int = %(most)d> ()
    text_0 = Constant <value_int = 0> ()
    text_1 = Constant <value_int = 1> ()
    text_2 = Constant <value_int = 2> ()
    text_00 = Constant <value_ints = [0]> ()
    text_11 = Constant <value_ints = [1]> ()
    text_second_type = Constant <value_ints = [%(second_type)d]> ()
    text_last = Constant <value_ints = [-1]> ()
    text_none = Constant <value = int64[0] {}> ()
    text_go = Constant <value = bool {1}> ()
    text_count = Size (text)
    text_pairs = Size (text_pair)
    text_is_pair = Greater (text_pairs, text_0)
    text_all_ids, text_all_types, text_lengths = Loop (text_count, text_go, text_none, text_none) <
        body = one_text (int64 text_i, bool text_go_in, int64[before] text_ids_in,
                int64[before] text_types_in) => (bool text_go_out, int64[after] text_ids_out,
                int64[after] text_types_out, int64 text_length) {
            text_place = Unsqueeze (text_i, text_00)
            text_a = Gather (text, text_place)
            text_a_ids, text_a_types, text_a_mask = ai.onnx.contrib.BertTokenizer (text_a)
            text_a_words = Slice (text_a_ids, text_11, text_last)
            text_b_words, text_tail = If (text_is_pair) <
                then_branch = a_pair () => (int64[words] text_b_inner, int64[end] text_b_end) {
                    text_b = Gather (text_pair, text_place)
                    text_b_ids, text_b_types, text_b_mask = ai.onnx.contrib.BertTokenizer (text_b)
                    text_b_inner = Slice (text_b_ids, text_11, text_last)
                    text_blank = Constant <value_strings = [""]> ()
                    text_is_blank = Equal (text_b, text_blank)
                    text_is_there = Not (text_is_blank)
                    text_b_end = Compress <axis = 0> (text_sep, text_is_there)
                },
                else_branch = no_pair () => (int64[words] text_no_words, int64[end] text_no_end) {
                    text_no_words = Identity (text_none)
                    text_no_end = Identity (text_none)
                }
            >
            text_a_count = Size (text_a_words)
            text_b_count = Size (text_b_words)
            text_tail_count = Size (text_tail)
            text_special = Add (text_2, text_tail_count)
            text_room = Sub (text_most, text_special)
            text_short = Min (text_a_count, text_b_count)
            text_rest = Sub (text_room, text_short)
            text_long = Max (text_short, text_rest)
            text_both = Add (text_short, text_long)
            text_too_long = Greater (text_both, text_room)
            text_half = Div (text_room, text_2)
            text_other_half = Sub (text_room, text_half)
            text_short_kept = Where (text_too_long, text_half, text_short)
            text_long_kept = Where (text_too_long, text_other_half, text_long)
            text_a_is_short = LessOrEqual (text_a_count, text_b_count)
            text_a_most = Where (text_a_is_short, text_short_kept, text_long_kept)
            text_b_most = Where (text_a_is_short, text_long_kept, text_short_kept)
            text_a_end = Unsqueeze (text_a_most, text_00)
            text_b_stop = Unsqueeze (text_b_most, text_00)
            text_a_kept = Slice (text_a_words, text_00, text_a_end)
            text_b_kept = Slice (text_b_words, text_00, text_b_stop)
            text_first = Concat <axis = 0> (text_cls, text_a_kept, text_sep)
            text_second = Concat <axis = 0> (text_b_kept, text_tail)
            text_first_shape = Shape (text_first)
            text_second_shape = Shape (text_second)
            text_first_types = Expand (text_00, text_first_shape)
            text_second_types = Expand (text_second_type, text_second_shape)
            text_ids_out = Concat <axis = 0> (text_ids_in, text_first, text_second)
            text_types_out = Concat <axis = 0> (text_types_in, text_first_types, text_second_types)
            text_first_count = Size (text_first)
            text_second_count = Size (text_second)
            text_length = Add (text_first_count, text_second_count)
            text_go_out = Identity (text_go_in)
        }
    >
    text_longest = ReduceMax <keepdims = 0> (text_lengths)
    text_range = Range (text_0, text_longest, text_1)
    text_column = Unsqueeze (text_lengths, text_11)
    text_there = Less (text_range, text_column)
    attention_mask = Cast <to = 7> (text_there)
    text_found = NonZero (text_there)
    text_places = Transpose <perm = [1, 0]> (text_found)
    text_shape = Shape (attention_mask)
    text_padding = Expand (text_pad, text_shape)
    text_no_types = Expand (text_00, text_shape)
    input_ids = ScatterND (text_padding, text_places, text_all_ids)
    token_type_ids = ScatterND (text_no_types, text_places, text_all_types)
}
"""


def tokenizer_graph(attributes: Mapping[str, Any], tokenizer: Tokenizer) -> onnx.ModelProto:
    """Return the graph from texts to `ARRAYS`, int64 [batch, sequence], padded to the longest text.

    Its inputs are `text`, string [batch], and `text_pair`, string [batch] or, by default, empty.
    It needs at least one text.

    Args:
        attributes: those of the operator.
        tokenizer: its special tokens, the token type of a second text, and the maximum length of a
            text. A longer text is truncated, as by TFBertTokenizer: a graph cannot raise an error.
    """
    ids = tokenizer.facts.special_ids
    numbers = {
        "cls": ids["cls"],
        "sep": ids["sep"],
        "pad": tokenizer.pad_id,
        "second_type": tokenizer.token_type_ids([], [])[-1],
        "most": tokenizer.max_length,
    }
    front = onnx.parser.parse_model(_TOKENIZE % numbers)
    for node in _operators(front.graph):
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    pair = helper.make_tensor_value_info("text_pair", onnx.TensorProto.STRING, ["pairs"])
    front.graph.input.append(pair)
    # The text format has no tensor of strings.
    front.graph.initializer.append(helper.make_tensor(pair.name, onnx.TensorProto.STRING, [0], []))
    return front


def _operators(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield each tokenizer operator in a graph and its subgraphs."""
    for node in graph.node:
        if node.domain == DOMAIN:
            yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _operators(attribute.g)


def with_tokenizer(model: onnx.ModelProto, front: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph of `tokenizer_graph` followed by the model; neither is changed.

    `ARRAYS`, which must be among the model's inputs, become outputs of the new graph.
    """
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    graph = joined.graph
    inputs = [value for value in graph.input if value.name not in ARRAYS]
    del graph.input[:], graph.node[:]
    graph.input.extend([*front.graph.input, *inputs])
    graph.initializer.extend(front.graph.initializer)
    graph.node.extend([*front.graph.node, *model.graph.node])
    graph.output.extend(front.graph.output)
    joined.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return joined
