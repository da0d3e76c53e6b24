"""The dialect's references: against PyTorch, against transformers, and inside onnx.reference."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator

from bertrt.kernels.ops import ACTIVATIONS, DOMAIN, OPERATORS, REFERENCES, VERSION

REFERENCE = {name: one.reference for name, one in OPERATORS.items()}
pack, unpack = REFERENCE["Pack"], REFERENCE["Unpack"]

# A row in full, one with its end padded, one with holes, one without a token.
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
IDS = np.arange(16).reshape(4, 4) + 100
TYPES = IDS % 2


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_pack_leaves_out_the_padding() -> None:
    ids, types, positions, rows, offsets = pack(IDS, TYPES, MASK)
    assert ids.tolist() == [100, 101, 102, 103, 104, 105, 109, 111]
    assert types.tolist() == [0, 1, 0, 1, 0, 1, 1, 1]
    assert positions.tolist() == [0, 1, 2, 3, 0, 1, 1, 3]
    assert rows.tolist() == [0, 1, 2, 3, 4, 5, 9, 11]
    assert offsets.tolist() == [0, 4, 6, 8, 8]
    assert {one.dtype for one in (ids, types, positions, rows, offsets)} == {np.dtype(np.int32)}


def test_pack_of_choices_is_pack_of_their_rows() -> None:
    flat = pack(IDS, TYPES, MASK)
    choices = pack(*(one.reshape(2, 2, 4) for one in (IDS, TYPES, MASK)))
    for one, other in zip(flat, choices, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mask_counts_whatever_is_not_zero() -> None:
    for mask in (MASK * 7, MASK.astype(bool), -MASK):
        np.testing.assert_array_equal(pack(IDS, TYPES, mask)[3], pack(IDS, TYPES, MASK)[3])


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0), (2, 0, 4)])
def test_pack_of_nothing(shape: tuple[int, ...]) -> None:
    none = np.zeros(shape, np.int64)
    *tokens, offsets = pack(none, none, none)
    assert [one.shape for one in tokens] == [(0,)] * 4
    assert offsets.tolist() == [0] * (int(np.prod(shape[:-1])) + 1)


def test_unpack_puts_tokens_back_and_zeros_between_them() -> None:
    rows = pack(IDS, TYPES, MASK)[3]
    x = normal(8, 3)
    padded = unpack(x, IDS, rows)
    np.testing.assert_array_equal(padded[MASK == 1], x)
    assert (padded[MASK == 0] == 0).all()
    choices = unpack(x, IDS.reshape(2, 2, 4), rows)
    np.testing.assert_array_equal(choices.reshape(4, 4, 3), padded)
    np.testing.assert_array_equal(unpack(x, IDS, rows, np.array(False)), padded)
    np.testing.assert_array_equal(unpack(x[:3], IDS, rows, np.array(True)), x[:3, None])


def test_first_rows() -> None:
    *_, rows, offsets = pack(IDS, TYPES, MASK)
    first_rows = REFERENCE["FirstRows"]
    # The last sequence has no token: its index is one that does no harm.
    assert first_rows(offsets, rows).tolist() == [0, 4, 6, 7]
    assert first_rows(offsets, rows, np.array(True)).tolist() == [0, 4, 6, 7]
    assert first_rows(offsets, rows, np.array(False)).tolist() == list(range(8))
    assert first_rows(offsets, rows).dtype == np.int32


def test_masked_rows() -> None:
    masked_rows = REFERENCE["MaskedRows"]
    ids = np.array([5, 9, 5, 1], np.int32)
    assert masked_rows(ids, np.array(True), mask_id=5).tolist() == [0, 2]
    assert masked_rows(ids, np.array(True), mask_id=7).tolist() == []
    assert masked_rows(ids, np.array(False), mask_id=5).tolist() == [0, 1, 2, 3]


def test_regroup() -> None:
    x = normal(4, 1)
    np.testing.assert_array_equal(REFERENCE["Regroup"](x, IDS.reshape(2, 2, 4)), x.reshape(2, 2))


TORCHS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_linear_is_torchs(activation: str, dtype: type) -> None:
    x, weight, bias = (3 * normal(*shape).astype(dtype) for shape in ((5, 8), (8, 6), (6,)))
    for addend in (bias, None):
        linear = F.linear(
            torch.from_numpy(x).double(),
            torch.from_numpy(weight).T.double(),
            None if addend is None else torch.from_numpy(addend).double(),
        )
        want = TORCHS[activation](linear).numpy()
        for matrix, transposed in ((weight, 0), (weight.T, 1)):
            settings = {"activation": activation, "transposed": transposed}
            got = REFERENCE["Linear"](x, matrix, addend, **settings)
            assert got.dtype == dtype
            np.testing.assert_allclose(got, want, rtol=2 * np.finfo(dtype).eps, atol=2e-5)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_is_torchs(causal: int) -> None:
    qkv = 2 * normal(8, 3 * 2 * 4)
    offsets = pack(IDS, TYPES, MASK)[4]
    got = REFERENCE["PackedAttention"](qkv, offsets, num_heads=2, causal=causal)
    for begin, end in pairwise(offsets):
        tokens = torch.from_numpy(qkv[begin:end]).unflatten(1, (3, 2, 4)).permute(1, 2, 0, 3)
        want = F.scaled_dot_product_attention(*tokens, is_causal=bool(causal))
        np.testing.assert_allclose(
            got[begin:end], want.transpose(0, 1).flatten(1), atol=1e-6, rtol=1e-5
        )


def test_mean_and_unit_rows_are_torchs() -> None:
    x, offsets = normal(8, 5), pack(IDS, TYPES, MASK)[4]
    mean = REFERENCE["MeanRows"](x.astype(np.float16), offsets)
    assert mean.dtype == np.float32
    assert (mean[3] == 0).all()
    np.testing.assert_allclose(mean[1], x.astype(np.float16)[4:6].mean(0, np.float64), rtol=1e-6)
    unit = REFERENCE["UnitRows"](np.vstack([x, 0 * x]))
    np.testing.assert_allclose(unit[:8], F.normalize(torch.from_numpy(x)), atol=1e-6)
    assert (unit[8:] == 0).all()


def test_the_encoder_is_that_of_transformers() -> None:
    """A whole BertModel, of the dialect's operators, on a batch whose mask has holes."""
    import transformers

    torch.manual_seed(4)
    config = transformers.BertConfig(
        vocab_size=120, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=16, initializer_range=0.5,
        hidden_act="gelu_new",
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    weights = {name: one.detach().numpy() for name, one in model.named_parameters()}

    def norm(name: str) -> tuple[np.ndarray, np.ndarray]:
        return weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]

    def linear(x: np.ndarray, name: str, activation: str = "") -> np.ndarray:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        settings = {"activation": activation, "transposed": 1}
        return REFERENCE["Linear"](x, weight, bias, **settings)

    add_layer_norm = REFERENCE["AddLayerNorm"]
    ids, types, positions, rows, offsets = pack(IDS, TYPES, MASK)
    tables = [weights[f"embeddings.{one}_embeddings.weight"] for one in
              ("word", "token_type", "position")]  # fmt: skip
    x = REFERENCE["EmbedLayerNorm"](ids, types, positions, *tables, *norm("embeddings"))
    for layer in (f"encoder.layer.{i}" for i in range(2)):
        qkv = [linear(x, f"{layer}.attention.self.{one}") for one in ("query", "key", "value")]
        context = REFERENCE["PackedAttention"](np.hstack(qkv), offsets, num_heads=3)
        name = f"{layer}.attention.output"
        bias = weights[f"{name}.dense.bias"]
        out = REFERENCE["Linear"](context, weights[f"{name}.dense.weight"], transposed=1)
        x = add_layer_norm(out, *norm(name), bias, x)
        wide = linear(x, f"{layer}.intermediate.dense", "gelu_tanh")
        out = linear(wide, f"{layer}.output.dense")
        x = add_layer_norm(out, *norm(f"{layer}.output"), None, x)
    first = REFERENCE["SelectRows"](x, REFERENCE["FirstRows"](offsets, rows))
    pooled = linear(first, "pooler.dense", "tanh")

    inputs = (IDS, MASK, TYPES)
    with torch.no_grad():
        want = model(*(torch.from_numpy(one) for one in inputs))
    hidden, there = want.last_hidden_state.numpy(), MASK == 1
    np.testing.assert_allclose(unpack(x, IDS, rows)[there], hidden[there], atol=2e-5)
    # The pooler reads the first position, which the third row's mask leaves out.
    np.testing.assert_allclose(pooled[:2], want.pooler_output[:2], atol=2e-5)


@pytest.mark.parametrize("left_out", [(), ("bias",), ("residual",), ("bias", "residual")])
def test_optional_inputs_in_a_graph(left_out: tuple[str, ...]) -> None:
    shapes = {"x": (3, 4), "gamma": (4,), "beta": (4,), "bias": (4,), "residual": (3, 4)}
    names = ["" if name in left_out else name for name in shapes]
    feeds = {name: normal(*shapes[name]) for name in names if name}
    node = onnx.helper.make_node("AddLayerNorm", names, ["y"], domain=DOMAIN, epsilon=0.5)
    got = run(node, feeds, ["y"])["y"]
    total = sum(
        torch.from_numpy(feeds[name]) for name in ("x", "bias", "residual") if name in feeds
    )
    gamma, beta = torch.from_numpy(feeds["gamma"]), torch.from_numpy(feeds["beta"])
    np.testing.assert_allclose(got, F.layer_norm(total, (4,), gamma, beta, 0.5), atol=1e-6)


def test_trailing_inputs_and_attributes_have_defaults() -> None:
    x, weight = normal(3, 4), normal(4, 2)
    node = onnx.helper.make_node("Linear", ["x", "weight"], ["y"], domain=DOMAIN)
    np.testing.assert_allclose(
        run(node, {"x": x, "weight": weight}, ["y"])["y"], x @ weight, rtol=1e-6
    )
    settings = {"activation": "relu", "transposed": 1}
    node = onnx.helper.make_node("Linear", ["x", "weight"], ["y"], domain=DOMAIN, **settings)
    got = run(node, {"x": x, "weight": weight.T.copy()}, ["y"])["y"]
    np.testing.assert_allclose(got, np.maximum(x @ weight, 0), rtol=1e-6)


def test_several_outputs_in_a_graph() -> None:
    inputs = {"input_ids": IDS, "token_type_ids": TYPES, "attention_mask": MASK}
    outputs = list(OPERATORS["Pack"].outputs)
    node = onnx.helper.make_node("Pack", list(inputs), outputs, domain=DOMAIN)
    got = run(node, inputs, outputs)
    for name, want in zip(outputs, pack(IDS, TYPES, MASK), strict=True):
        np.testing.assert_array_equal(got[name], want)


def test_the_signature_of_an_operator_is_its_functions() -> None:
    linear = OPERATORS["Linear"]
    assert linear.inputs == ("x", "weight", "bias")
    assert linear.optional == {"bias"}
    assert linear.attributes == {"activation": "", "transposed": 0}
    assert linear.outputs == ("y",)
    assert OPERATORS["MaskedRows"].attributes == {"mask_id": None}
    assert all(name == one.name for name, one in OPERATORS.items())


def run(node: onnx.NodeProto, feeds: dict[str, np.ndarray], outputs: list[str]) -> dict[str, Any]:
    """A graph of this node alone, run by onnx.reference with the dialect's references."""
    element = onnx.helper.np_dtype_to_tensor_dtype
    inputs = [
        onnx.helper.make_tensor_value_info(name, element(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    results = [onnx.helper.make_tensor_value_info(name, 0, None) for name in outputs]
    graph = onnx.helper.make_graph([node], "one", inputs, results)
    opsets = [onnx.helper.make_opsetid("", 23), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    answers = ReferenceEvaluator(model, new_ops=REFERENCES).run(outputs, feeds)
    return dict(zip(outputs, answers, strict=True))
