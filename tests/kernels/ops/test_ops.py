"""Test the operators' references against PyTorch and transformers, and in onnx.reference."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator

from bertrt.kernels.ops.activations import ACTIVATIONS
from bertrt.kernels.ops.operator import DOMAIN, VERSION
from bertrt.kernels.ops.registry import OPERATORS, REFERENCES

REFERENCE = {name: op.reference for name, op in OPERATORS.items()}
pack, unpack = REFERENCE["Pack"], REFERENCE["Unpack"]

# A full row, a row with padding at the end, a row with holes, and a row without tokens.
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
IDS = np.arange(16).reshape(4, 4) + 100
TYPES = IDS % 2


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_pack_removes_padding() -> None:
    ids, types, positions, rows, offsets = pack(IDS, TYPES, MASK)
    assert ids.tolist() == [100, 101, 102, 103, 104, 105, 109, 111]
    assert types.tolist() == [0, 1, 0, 1, 0, 1, 1, 1]
    assert positions.tolist() == [0, 1, 2, 3, 0, 1, 1, 3]
    assert rows.tolist() == [0, 1, 2, 3, 4, 5, 9, 11]
    assert offsets.tolist() == [0, 4, 6, 8, 8]
    assert {array.dtype for array in (ids, types, positions, rows, offsets)} == {np.dtype(np.int32)}


def test_pack_flattens_choices() -> None:
    flat = pack(IDS, TYPES, MASK)
    choices = pack(*(array.reshape(2, 2, 4) for array in (IDS, TYPES, MASK)))
    for expected, got in zip(flat, choices, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (4, 3), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("value", [1, 7, True])
def test_a_batch_without_padding_is_packed_alike(shape: tuple[int, ...], value: int) -> None:
    random = np.random.default_rng(0)
    ids, types = random.integers(0, 99, shape), random.integers(0, 2, shape)
    mask = np.full(shape, value)
    *whole, rows, offsets = pack(ids, types, mask)
    widths = [(0, 0)] * (len(shape) - 1) + [(0, 2)]
    *padded, _, padded_offsets = pack(*(np.pad(array, widths) for array in (ids, types, mask)))
    for got, expected in zip((*whole, offsets), (*padded, padded_offsets), strict=True):
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, expected)
    assert rows.dtype == np.int32
    assert rows.tolist() == list(range(ids.size))


def test_pack_selects_every_nonzero_mask_value() -> None:
    for mask in (MASK * 7, MASK.astype(bool), -MASK):
        np.testing.assert_array_equal(pack(IDS, TYPES, mask)[3], pack(IDS, TYPES, MASK)[3])


@pytest.mark.parametrize("padding_id", [0, 1, 5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 7), (2, 3, 6)], ids=str)
@pytest.mark.parametrize("full", [True, False])
def test_pack_counts_positions_by_tokens(
    shape: tuple[int, ...], padding_id: int, full: bool
) -> None:
    """The mask does not matter: a padding token may be inside a text."""
    random = np.random.default_rng(padding_id)
    ids = random.integers(0, 7, shape)
    mask = np.ones(shape, np.int64) if full else random.integers(0, 2, shape)
    expected: list[int] = []
    rows = (array.reshape(-1, shape[-1]).tolist() for array in (ids, mask))
    for row, selected in zip(*rows, strict=True):
        count = 0
        for token, is_selected in zip(row, selected, strict=True):
            count += token != padding_id
            position = padding_id + (count if token != padding_id else 0)
            expected += [position] if is_selected else []
    by_tokens = pack(ids, ids, mask, padding_id=padding_id)
    assert by_tokens[2].dtype == np.int32
    assert by_tokens[2].tolist() == expected
    for index, value in enumerate(pack(ids, ids, mask)):
        if index != 2:
            np.testing.assert_array_equal(by_tokens[index], value)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0), (2, 0, 4)])
def test_pack_without_tokens(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, np.int64)
    assert pack(empty, empty, empty, padding_id=1)[2].shape == (0,)
    *tokens, offsets = pack(empty, empty, empty)
    assert [array.shape for array in tokens] == [(0,)] * 4
    assert offsets.tolist() == [0] * (int(np.prod(shape[:-1])) + 1)


def test_unpack_restores_positions_and_fills_with_zeros() -> None:
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
    # The last sequence has no tokens; its index is valid but meaningless.
    assert first_rows(offsets, rows).tolist() == [0, 4, 6, 7]
    assert first_rows(offsets, rows, np.array(True)).tolist() == [0, 4, 6, 7]
    assert first_rows(offsets, rows, np.array(False)).tolist() == list(range(8))
    assert first_rows(offsets, rows).dtype == np.int32


@pytest.mark.parametrize(
    ("picked", "expected"),
    [
        ([0, 3, 4], [0, 1, 2, 3]),  # the first of each sequence
        ([0, 1, 2, 3, 4, 5, 6], [0, 3, 4, 7]),  # all
        ([1, 2, 5, 6], [0, 2, 2, 4]),  # some, but none of the second sequence
        ([], [0, 0, 0, 0]),
    ],
)
def test_picked_offsets(picked: list[int], expected: list[int]) -> None:
    offsets = np.array([0, 3, 4, 7], np.int32)
    found = REFERENCE["PickedOffsets"](np.array(picked, np.int32), offsets)
    assert found.dtype == np.int32
    assert found.tolist() == expected
    # The picked rows from entry b to entry b + 1 belong to sequence b.
    for b in range(3):
        own = [row for row in picked if offsets[b] <= row < offsets[b + 1]]
        assert picked[found[b] : found[b + 1]] == own


def test_masked_rows() -> None:
    masked_rows = REFERENCE["MaskedRows"]
    ids = np.array([5, 9, 5, 1], np.int32)
    assert masked_rows(ids, np.array(True), mask_id=5).tolist() == [0, 2]
    assert masked_rows(ids, np.array(True), mask_id=7).tolist() == []
    assert masked_rows(ids, np.array(False), mask_id=5).tolist() == [0, 1, 2, 3]


def test_regroup() -> None:
    x = normal(4, 1)
    np.testing.assert_array_equal(REFERENCE["Regroup"](x, IDS.reshape(2, 2, 4)), x.reshape(2, 2))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_linear_matches_pytorch(
    activation: str,
    dtype: type,
    torch_activations: dict[str, Callable[[torch.Tensor], torch.Tensor]],
) -> None:
    x, weight, bias = (3 * normal(*shape).astype(dtype) for shape in ((5, 8), (8, 6), (6,)))
    for addend in (bias, None):
        linear = F.linear(
            torch.from_numpy(x).double(),
            torch.from_numpy(weight).T.double(),
            None if addend is None else torch.from_numpy(addend).double(),
        )
        expected = torch_activations[activation](linear).numpy()
        for matrix, transposed in ((weight, 0), (weight.T, 1)):
            settings = {"activation": activation, "transposed": transposed}
            got = REFERENCE["Linear"](x, matrix, addend, **settings)
            assert got.dtype == dtype
            np.testing.assert_allclose(got, expected, rtol=2 * np.finfo(dtype).eps, atol=2e-5)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_matches_pytorch(causal: int) -> None:
    qkv = 2 * normal(8, 3 * 2 * 4)
    offsets = pack(IDS, TYPES, MASK)[4]
    got = REFERENCE["PackedAttention"](qkv, offsets, num_heads=2, causal=causal)
    for begin, end in pairwise(offsets):
        tokens = torch.from_numpy(qkv[begin:end]).unflatten(1, (3, 2, 4)).permute(1, 2, 0, 3)
        expected = F.scaled_dot_product_attention(*tokens, is_causal=bool(causal))
        np.testing.assert_allclose(
            got[begin:end], expected.transpose(0, 1).flatten(1), atol=1e-6, rtol=1e-5
        )


def test_pool_and_unit_rows_match_pytorch() -> None:
    x, offsets = normal(8, 5), pack(IDS, TYPES, MASK)[4]
    half = x.astype(np.float16)
    pooled = REFERENCE["PoolRows"](half, offsets, poolings="mean max weightedmean")
    assert pooled.dtype == np.float32
    assert (pooled[3] == 0).all()
    first, second = torch.from_numpy(half[4:6]).double()
    expected = torch.cat([(first + second) / 2, first.maximum(second), (first + 2 * second) / 3])
    np.testing.assert_allclose(pooled[1], expected, rtol=1e-6)
    unit = REFERENCE["UnitRows"](np.vstack([x, 0 * x]))
    np.testing.assert_allclose(unit[:8], F.normalize(torch.from_numpy(x)), atol=1e-6)
    assert (unit[8:] == 0).all()


def test_an_encoder_of_these_operators_matches_transformers() -> None:
    """A whole BertModel made of the operators, on a batch whose mask has holes."""
    import transformers

    torch.manual_seed(4)
    config = transformers.BertConfig(
        vocab_size=120, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=16, initializer_range=0.5,
        hidden_act="gelu_new",
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    weights = {name: param.detach().numpy() for name, param in model.named_parameters()}

    def norm(name: str) -> tuple[np.ndarray, np.ndarray]:
        return weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]

    def linear(x: np.ndarray, name: str, activation: str = "") -> np.ndarray:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        settings = {"activation": activation, "transposed": 1}
        return REFERENCE["Linear"](x, weight, bias, **settings)

    add_layer_norm = REFERENCE["AddLayerNorm"]
    ids, types, positions, rows, offsets = pack(IDS, TYPES, MASK)
    tables = [weights[f"embeddings.{table}_embeddings.weight"] for table in
              ("word", "token_type", "position")]  # fmt: skip
    x = REFERENCE["EmbedLayerNorm"](ids, types, positions, *tables, *norm("embeddings"))
    for layer in (f"encoder.layer.{i}" for i in range(2)):
        qkv = [linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value")]
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
        expected = model(*(torch.from_numpy(array) for array in inputs))
    hidden, real = expected.last_hidden_state.numpy(), MASK == 1
    np.testing.assert_allclose(unpack(x, IDS, rows)[real], hidden[real], atol=2e-5)
    # The pooler reads the first position, which the mask of the third row excludes.
    np.testing.assert_allclose(pooled[:2], expected.pooler_output[:2], atol=2e-5)


@pytest.mark.parametrize("omitted", [(), ("bias",), ("residual",), ("bias", "residual")])
def test_optional_inputs_may_be_omitted_in_a_graph(omitted: tuple[str, ...]) -> None:
    shapes = {"x": (3, 4), "gamma": (4,), "beta": (4,), "bias": (4,), "residual": (3, 4)}
    names = ["" if name in omitted else name for name in shapes]
    arrays = {name: normal(*shapes[name]) for name in names if name}
    node = onnx.helper.make_node("AddLayerNorm", names, ["y"], domain=DOMAIN, epsilon=0.5)
    got = run(node, arrays, ["y"])["y"]
    total = sum(
        torch.from_numpy(arrays[name]) for name in ("x", "bias", "residual") if name in arrays
    )
    gamma, beta = torch.from_numpy(arrays["gamma"]), torch.from_numpy(arrays["beta"])
    np.testing.assert_allclose(got, F.layer_norm(total, (4,), gamma, beta, 0.5), atol=1e-6)


def test_trailing_inputs_and_attributes_may_be_omitted() -> None:
    x, weight = normal(3, 4), normal(4, 2)
    node = onnx.helper.make_node("Linear", ["x", "weight"], ["y"], domain=DOMAIN)
    np.testing.assert_allclose(
        run(node, {"x": x, "weight": weight}, ["y"])["y"], x @ weight, rtol=1e-6
    )
    settings = {"activation": "relu", "transposed": 1}
    node = onnx.helper.make_node("Linear", ["x", "weight"], ["y"], domain=DOMAIN, **settings)
    got = run(node, {"x": x, "weight": weight.T.copy()}, ["y"])["y"]
    np.testing.assert_allclose(got, np.maximum(x @ weight, 0), rtol=1e-6)


def test_pack_in_a_graph() -> None:
    inputs = {"input_ids": IDS, "token_type_ids": TYPES, "attention_mask": MASK}
    outputs = list(OPERATORS["Pack"].outputs)
    node = onnx.helper.make_node("Pack", list(inputs), outputs, domain=DOMAIN)
    got = run(node, inputs, outputs)
    for name, expected in zip(outputs, pack(IDS, TYPES, MASK), strict=True):
        np.testing.assert_array_equal(got[name], expected)


def test_an_operator_has_the_signature_of_its_reference() -> None:
    linear = OPERATORS["Linear"]
    assert linear.inputs == ("x", "weight", "bias")
    assert linear.optional == {"bias"}
    assert linear.attributes == {"activation": "", "transposed": 0}
    assert linear.outputs == ("y",)
    assert OPERATORS["MaskedRows"].attributes == {"mask_id": None}
    assert all(name == op.name for name, op in OPERATORS.items())


def run(node: onnx.NodeProto, arrays: dict[str, np.ndarray], outputs: list[str]) -> dict[str, Any]:
    """Run a graph of this node with onnx.reference."""
    element = onnx.helper.np_dtype_to_tensor_dtype
    inputs = [
        onnx.helper.make_tensor_value_info(name, element(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    results = [onnx.helper.make_tensor_value_info(name, 0, None) for name in outputs]
    graph = onnx.helper.make_graph([node], "one", inputs, results)
    opsets = [onnx.helper.make_opsetid("", 23), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    answers = ReferenceEvaluator(model, new_ops=REFERENCES).run(outputs, arrays)
    return dict(zip(outputs, answers, strict=True))
