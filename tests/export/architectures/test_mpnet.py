"""MPNet: a bias of attention by the distance of two tokens' places, on every target."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

import bertrt
from bertrt.artifact.targets import choose_target
from bertrt.export import export
from bertrt.export.architectures.mpnet import RelativeAttentionBias
from bertrt.export.parity.harness import open_session
from bertrt.kernels.ops.operator import DOMAIN

Exported = Callable[..., SimpleNamespace]
Arrays = dict[str, np.ndarray]

HEADS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForTokenClassification": "token-classification",
}
FIRST_TOKEN = ("ForSequenceClassification", "ForMultipleChoice")
# Longer than the distance from which on all have one bucket, which is 91.
LONG = {"max_position_embeddings": 162, "num_attention_heads": 5}
ORT = {"device": "cuda", "engine": "ort"}
TRITON = {"device": "cuda", "engine": "triton"}
ELSEWHERE: list[tuple[str, dict[str, Any]]] = [
    ("Model", {"device": "any"}),
    ("ForSequenceClassification", {"device": "any", "opset": 17}),
    ("ForSequenceClassification", {**ORT, "dtype": "float32"}),
    ("Model", {**ORT, "dtype": "float16"}),
    ("ForMaskedLM", {**TRITON, "dtype": "float32"}),
    ("ForMultipleChoice", {**TRITON, "dtype": "float16"}),
]


def with_holes(arrays: Arrays) -> Arrays:
    """Mask every fifth token, so that a token's place is not the number of those before it."""
    mask = arrays["attention_mask"].copy()
    mask[..., 3::5] = 0
    return {**arrays, "attention_mask": mask}


@pytest.mark.parametrize("head", HEADS)
def test_on_cpu(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
    head: str,
) -> None:
    """Rows of every length give transformers' answers in one batch, and alone."""
    made = exported("mpnet", head)
    assert made.manifest.task == HEADS[head]
    assert made.manifest.architecture == f"MPNet{head}"
    assert made.manifest.graph.fused["SharedBiasedMask"] == 1
    assert made.manifest.graph.fused["Attention"] == 2
    assert made.manifest.graph.fused.get("FirstTokenAttention", 0) == (head in FIRST_TOKEN)
    arrays = batch(made.checkpoint)
    with bertrt.load(made.folder, threads=1) as rt:
        together = rt.run(**arrays)
        check_equal(together, theirs(made.checkpoint, **arrays), arrays["attention_mask"])
        for row in (0, 1, 6, 24, 39):
            alone = rt.run(input_ids=arrays["input_ids"][row : row + 1, ..., : row + 1])
            for name, value in alone.items():
                same = together[name][row : row + 1]
                same = same if same.shape == value.shape else same[:, : row + 1]
                np.testing.assert_allclose(value, same, rtol=0, atol=1e-5)
        arrays = with_holes(arrays)
        check_equal(rt.run(**arrays), theirs(made.checkpoint, **arrays), arrays["attention_mask"])


@pytest.mark.parametrize(("head", "options"), ELSEWHERE, ids=str)
def test_elsewhere(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
    head: str,
    options: dict[str, Any],
) -> None:
    """ONNX Runtime on the CPU, or the numpy references of the kernels, give the answers."""
    made = exported("mpnet", head, tuple(options.items()))
    target, dtype = choose_target(**made.manifest.target)
    session = open_session(made.folder / "model.onnx", target.engine, target.optimization_level)
    arrays = batch(made.checkpoint)
    # Answers are about 5 after two layers: float16 rounds them to 11 bits.
    tolerance = {"float16": 0.04}.get(dtype, 1e-4)
    for case in (arrays, with_holes(arrays)):
        ours = session.run({**case, "token_type_ids": np.zeros_like(case["input_ids"])})
        expected = theirs(made.checkpoint, **case)
        check_equal(ours, expected, case["attention_mask"], tolerance=tolerance)
    session.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="for Triton's interpreter")
def test_the_kernel_gets_the_bias_and_the_places(
    exported: Exported, theirs: Callable[..., Arrays], check_equal: Callable[..., None]
) -> None:
    options = tuple({**TRITON, "dtype": "float32"}.items())
    made = exported("mpnet", "ForSequenceClassification", options)
    model = ir.load(made.folder / "model.onnx")
    attentions = [node for node in model.graph if node.op_type == "PackedAttention"]
    assert [[*node.inputs[2].shape] for node in attentions] == [[4, 257]] * 2
    assert {node.domain for node in model.graph} <= {DOMAIN, ""}
    ids = np.random.default_rng(1).integers(5, 40, (3, 11))
    arrays = with_holes({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    arrays["attention_mask"][1, 4:] = 0
    with bertrt.load(made.folder) as rt:
        answers = rt.run(**arrays)
    check_equal(answers, theirs(made.checkpoint, **arrays), arrays["attention_mask"])


@pytest.mark.parametrize("rows", [1, 3])
def test_the_longest_length(exported: Exported, theirs: Callable[..., Arrays], rows: int) -> None:
    """Distances beyond the last bucket's first have its bias; one token more is refused."""
    made = exported("mpnet", "ForQuestionAnswering", (), **LONG)
    ids = np.random.default_rng(rows).integers(5, 40, (rows, 160))
    with bertrt.load(made.folder, threads=1) as rt:
        ours, expected = rt.run(input_ids=ids), theirs(made.checkpoint, input_ids=ids)
        for name in ("start_logits", "end_logits"):
            np.testing.assert_allclose(ours[name], expected[name], rtol=0, atol=1e-4)
        with pytest.raises(bertrt.InputError, match="161 tokens, and this model has positions"):
            rt.run(input_ids=np.full((1, 161), 7))


def test_hidden_states_and_attention_weights(
    exported: Exported, batch: Callable[..., Arrays]
) -> None:
    options = (("output_hidden_states", True), ("output_attentions", True))
    made = exported("mpnet", "Model", options)
    arrays = with_holes(batch(made.checkpoint))
    arrays["attention_mask"][:, 0] = 1
    model = transformers.MPNetModel.from_pretrained(made.checkpoint, attn_implementation="eager")
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        expected = model(**tensors, output_hidden_states=True, output_attentions=True)
    real = arrays["attention_mask"] != 0
    with bertrt.load(made.folder, threads=1) as rt:
        ours = rt.run(**arrays)
    for got, value in zip(ours.hidden_states, expected.hidden_states, strict=True):
        np.testing.assert_allclose(got[real], value.numpy()[real], rtol=0, atol=1e-4)
    for got, value in zip(ours.attentions, expected.attentions, strict=True):
        weights, exact = (one.swapaxes(1, 2)[real] for one in (got, value.numpy()))
        np.testing.assert_allclose(weights, exact, rtol=0, atol=1e-5)
        assert np.ptp(exact, axis=1).max() > 0.5


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForSequenceClassification"])
def test_without_padding_no_text_has_a_mask_of_its_own(
    exported: Exported, graphs: ModuleType, head: str
) -> None:
    """The mask that all layers read is the bias, [1, N, S, S], until a token is padding."""
    model = ir.load(exported("mpnet", head).folder / "model.onnx")
    reads = Counter(node.inputs[3] for node in model.graph if node.op_type == "Attention")
    mask = next(iter(reads))
    assert sum(reads.values()) == 2
    model.graph.outputs.append(mask)
    mask.type = ir.TensorType(ir.DataType.FLOAT)
    ir.external_data.load_to_model(model)
    session = graphs.open_session(model, "ORT_DISABLE_ALL")
    ids = np.full((3, 9), 7)
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    arrays["token_type_ids"] = np.zeros_like(ids)
    (shared,) = session.run([mask.name], arrays)
    assert shared.shape == (1, 4, 9, 9)
    arrays["attention_mask"][1, 5:] = 0
    (own,) = session.run([mask.name], arrays)
    assert own.shape == (3, 4, 9, 9)
    np.testing.assert_array_equal(own[[0, 2]], np.repeat(shared, 2, axis=0))
    np.testing.assert_array_equal(own[1, ..., :5], shared[0, ..., :5])
    assert (own[1, ..., 5:] < -1e38).all()


def test_one_layer_that_attends_to_its_inputs(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
) -> None:
    made = exported("mpnet", "ForSequenceClassification", (), num_hidden_layers=1)
    assert made.manifest.graph.fused["FirstTokenAttention"] == 1
    arrays = batch(made.checkpoint)
    with bertrt.load(made.folder, threads=1) as rt:
        ours = rt.run(**arrays)
    check_equal(ours, theirs(made.checkpoint, **arrays), arrays["attention_mask"])


@pytest.mark.parametrize("device", ["cpu", "any"])
def test_int8(exported: Exported, device: str) -> None:
    """The bounds are proved, and a text is nearer to itself in float32 than to any other."""
    changes = {"spread": 0.02, "initializer_range": 0.1}
    options = (("device", device), ("dtype", "int8"))
    made, plain = (exported("mpnet", "Model", one, **changes) for one in (options, ()))
    report = made.manifest.quantization
    assert report is not None
    assert report["cosine"] >= 0.995
    texts = ["the cat sat on the mat", "a big dog ran", "what is the city", "you", "we and they"]
    vectors = []
    for folder in (made.folder, plain.folder):
        with bertrt.load(folder, threads=1) as rt:
            vectors.append(np.array(rt.embed(texts)))
    ours, expected = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors)
    others = (expected @ expected.T)[~np.eye(len(texts), dtype=bool)]
    assert (ours * expected).sum(axis=1).min() > 0.99 > others.max()


def test_the_bias_is_transformers_own() -> None:
    """For more tokens than a model has positions, to the bit."""
    theirs = MPNetEncoder(transformers.MPNetConfig(num_hidden_layers=0, num_attention_heads=3))
    theirs.relative_attention_bias = RelativeAttentionBias(32, 3)
    plain = torch.nn.Embedding.forward
    bias = theirs.relative_attention_bias
    places = torch.arange(700)
    buckets = MPNetEncoder.relative_position_bucket(places - places[:, None])
    expected = plain(bias, buckets).permute(2, 0, 1)
    assert torch.equal(bias(places, places)[0], expected)
    assert torch.equal(bias(places[5:9], places)[0], expected[:, 5:9])
    assert bias.weight.std() > 0.5


def test_too_few_buckets(encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = encoder("mpnet", "Model", relative_attention_num_buckets=16)
    with pytest.raises(
        bertrt.ExportError, match="num_buckets is 16, and MPNet puts distances in 32"
    ):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
