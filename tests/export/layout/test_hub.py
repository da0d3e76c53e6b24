"""The hub's layout: files that other runtimes find, the same vectors from them, and refusals.

`make layouts` opens such folders with the runtimes themselves. Here ONNX Runtime, tokenizers and
numpy stand for them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

import bertrt
from bertrt.errors import ExportError, ParityError
from bertrt.export import export

TEXTS = [
    "Plants create oxygen through a process known as photosynthesis.",
    "Mary lives in London.",
    "a",
    "John Smith works at Google in New York, and the cat sat on the mat by the river.",
]
FILES = """
1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors bertrt.json config.json
config_sentence_transformers.json modules.json onnx/model.onnx sentence_bert_config.json
special_tokens_map.json tokenizer.json tokenizer_config.json vocab.txt
""".split()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(folder: Path, texts: list[str], graph: str = "model.onnx") -> dict[str, np.ndarray]:
    """Run a graph as FastEmbed does: limit and padding are those of the tokenizer's files."""
    config = read(folder / "tokenizer_config.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(config["model_max_length"])
    tokenizer.enable_padding(pad_id=read(folder / "config.json")["pad_token_id"])
    encoded = tokenizer.encode_batch(texts)
    arrays = {
        "input_ids": np.array([one.ids for one in encoded]),
        "attention_mask": np.array([one.attention_mask for one in encoded]),
        "token_type_ids": np.array([one.type_ids for one in encoded]),
    }
    path = str(folder / "onnx" / graph)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == set(arrays)
    assert {value.type for value in session.get_inputs()} == {"tensor(int64)"}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, arrays), strict=True))


def reference(encoder: Path, texts: list[str], **options: Any) -> np.ndarray:
    """sentence-transformers' own vectors of the checkpoint."""
    vectors = SentenceTransformer(str(encoder), device="cpu").encode(texts, **options)
    assert np.ptp(vectors, axis=0).max() > 0.05, "all texts have the same vector"
    return np.asarray(vectors)


def test_files_and_graph(hub: Path) -> None:
    assert names_in(hub) == sorted(FILES)
    model = onnx.load(hub / "onnx/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert {node.domain for node in model.graph.node} == {""}
    assert model.graph.output[0].name == "last_hidden_state"
    assert {value.name for value in model.graph.input} == {
        "input_ids",
        "attention_mask",
        "token_type_ids",
    }


def test_vectors_are_those_of_sentence_transformers(hub: Path, encoder: Path) -> None:
    expected = reference(encoder, TEXTS)
    answer = run(hub, TEXTS)
    np.testing.assert_allclose(answer["sentence_embedding"], expected, rtol=0, atol=1e-5)
    # What a runtime that pools by itself reads, and the Dense that it then applies.
    state = answer["last_hidden_state"][:, 0]
    assert state.shape == (len(TEXTS), 32)
    with bertrt.load(hub, threads=1) as rt:
        np.testing.assert_allclose(rt.embed(TEXTS), expected, rtol=0, atol=1e-5)
        queries = reference(encoder, TEXTS, prompt_name="query")
        np.testing.assert_allclose(rt.embed_query(TEXTS), queries, rtol=0, atol=1e-5)
        assert rt.info["graph"] == "model.onnx"


def test_the_folder_is_a_sentence_transformers_model(
    hub: Path, encoder: Path, tmp_path: Path
) -> None:
    """With the weights beside it, sentence-transformers reads the settings as they were."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in names_in(hub):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(hub / name)
    (folder / "model.safetensors").symlink_to(encoder / "model.safetensors")
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == 12
    assert model.prompts["query"] == "who is "
    np.testing.assert_allclose(model.encode(TEXTS), reference(encoder, TEXTS), rtol=0, atol=1e-6)


def test_settings_are_spelled_as_tei_reads_them(hub: Path) -> None:
    pooling = read(hub / "1_Pooling/config.json")
    assert pooling["word_embedding_dimension"] == 32
    assert {name for name, value in pooling.items() if value is True} == {
        "pooling_mode_cls_token",
        "include_prompt",
    }
    # Those without which it does not start.
    for name in ("cls_token", "mean_tokens", "lasttoken"):
        assert isinstance(pooling[f"pooling_mode_{name}"], bool)
    assert read(hub / "sentence_bert_config.json")["max_seq_length"] == 12
    assert [module["type"] for module in read(hub / "modules.json")] == [
        "sentence_transformers.models.Transformer",
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Dense",
        "sentence_transformers.models.Normalize",
    ]


def test_tokenizer_files(hub: Path) -> None:
    config, tokens = (
        read(hub / name) for name in ("tokenizer_config.json", "special_tokens_map.json")
    )
    assert config["model_max_length"] == 12
    contents = {role: token["content"] for role, token in tokens.items()}
    assert contents == {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }


def test_a_checkpoint_without_settings(make_checkpoint: Any, tmp_path: Path) -> None:
    """The folder says what bertrt does: other runtimes would take the first token, or not scale."""
    checkpoint = make_checkpoint("BertModel")
    export(checkpoint, tmp_path / "out", layout="hub")
    kinds = [one["type"].rpartition(".")[2] for one in read(tmp_path / "out/modules.json")]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    assert read(tmp_path / "out/1_Pooling/config.json")["pooling_mode_mean_tokens"] is True
    assert read(tmp_path / "out/sentence_bert_config.json")["max_seq_length"] == 64
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        vectors = rt.embed(TEXTS)
    answer = run(tmp_path / "out", TEXTS)["sentence_embedding"]
    np.testing.assert_allclose(answer, vectors, rtol=0, atol=1e-6)


def test_poolings_in_an_order_that_flags_cannot_say(encoder: Path, tmp_path: Path) -> None:
    from bertrt.artifact.manifest import EmbeddingFacts
    from bertrt.export.layout.sentence_files import write_sentence_files

    facts = EmbeddingFacts(
        pooling=("mean", "cls"),
        include_prompt=True,
        modules=(),
        size=64,
        dimensions=None,
        max_length=12,
        truncation=True,
        prompts={},
        default_prompt_name=None,
        similarity="cosine",
    )
    write_sentence_files(encoder, 32, facts, tmp_path)
    pooling = read(tmp_path / "1_Pooling/config.json")
    assert pooling["pooling_mode"] == ["mean", "cls"]
    assert not [name for name in pooling if name.startswith("pooling_mode_")]


def test_int8(hub: Path, hub_int8: Path, encoder: Path) -> None:
    """Both graphs are there, the one in float32 as without int8, and both are of the old opset."""
    assert names_in(hub_int8) == sorted([*FILES, "onnx/model_quantized.onnx"])
    plain = [folder / "onnx/model.onnx" for folder in (hub, hub_int8)]
    assert plain[0].read_bytes() == plain[1].read_bytes()
    model = onnx.load(hub_int8 / "onnx/model_quantized.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert {node.domain for node in model.graph.node} == {""}
    weights = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8]
    assert len(weights) >= 8
    expected = reference(encoder, TEXTS)
    answer = run(hub_int8, TEXTS, "model_quantized.onnx")["sentence_embedding"]
    assert 0.98 < (answer * expected).sum(axis=1).min() < 0.999999
    with bertrt.load(hub_int8, threads=1) as rt:
        assert rt.info["graph"] == "model_quantized.onnx"
        np.testing.assert_allclose(rt.embed(TEXTS), answer, rtol=0, atol=1e-5)


def test_int8_products_run_as_integers(hub_int8: Path, tmp_path: Path) -> None:
    """ONNX Runtime fuses two DequantizeLinear and their MatMul to one integer product."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    path = str(hub_int8 / "onnx/model_quantized.onnx")
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    before, after = (
        [node.op_type for node in onnx.load(file).graph.node]
        for file in (path, tmp_path / "optimized.onnx")
    )
    assert before.count("DequantizeLinear") >= 16
    assert after.count("DequantizeLinear") == 0
    assert after.count("MatMulIntegerToFloat") >= 8
    fused = read(hub_int8 / "bertrt.json")["graph"]["fused"]
    assert fused["DequantizeLinear"] == before.count("DequantizeLinear")
    assert fused["QuantizeLinear"] == before.count("QuantizeLinear")
    assert not {"MatMulIntegerToFloat", "Attention"} & set(fused)


@pytest.mark.parametrize(
    ("dtype", "step", "message"),
    [
        ("float32", "lower_opset", "last_hidden_state at shape"),
        ("int8", "use_standard_operators", "the finished int8 graph has a worst cosine of"),
    ],
)
def test_the_graph_that_is_written_is_the_one_that_is_checked(
    make_checkpoint: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    step: str,
    message: str,
) -> None:
    """A rewriting that changes the last bias is found, and nothing is written."""
    from bertrt.export import exporter

    original = getattr(exporter, step)

    def wrong(model: Any, *arguments: Any) -> Any:
        counts = original(model, *arguments)
        bias = model.graph.initializers["encoder.layer.0.output.LayerNorm.bias"]
        change = np.random.default_rng(0).standard_normal(bias.shape[0]).astype(np.float32)
        bias.const_value = ir.tensor(bias.const_value.numpy() + change, name=bias.name)
        return counts

    checkpoint = make_checkpoint("BertModel", num_hidden_layers=1)
    monkeypatch.setattr(exporter, step, wrong)
    with pytest.raises(ParityError, match=message):
        export(checkpoint, tmp_path / "out", layout="hub", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_reranker(make_checkpoint: Any, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("BertForSequenceClassification", num_labels=1)
    manifest = export(checkpoint, tmp_path / "out", layout="hub")
    assert manifest.target["device"] == "any"
    assert not (tmp_path / "out/modules.json").exists()
    pair = ("who lives in london", "Mary lives in London.")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    encoded = tokenizer.encode(*pair)
    session = ort.InferenceSession(
        str(tmp_path / "out/onnx/model.onnx"), providers=["CPUExecutionProvider"]
    )
    arrays = {
        "input_ids": [encoded.ids],
        "attention_mask": [encoded.attention_mask],
        "token_type_ids": [encoded.type_ids],
    }
    logits = session.run(None, {name: np.array(value) for name, value in arrays.items()})[0]
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        score = rt.score(pair, activation="identity")
    assert float(logits[0, 0]) == pytest.approx(float(score), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "zip"}, "unknown layout 'zip': choose one of artifact, hub"),
        ({"layout": "hub", "device": "cpu"}, "the device 'cpu' is not: leave out --device"),
        ({"layout": "hub", "device": "cuda"}, "the device 'cuda' is not: leave out --device"),
        ({"layout": "hub", "with_tokenizer": True}, "--with-tokenizer writes a graph"),
        ({"layout": "hub", "task": "sparse-embedding"}, "bertrt's own: leave out --layout"),
        ({"device": "any", "opset": 16}, "the opset is 16: bertrt writes .* 17 to 23"),
        ({"layout": "hub", "opset": 24}, "the opset is 24: bertrt writes .* 17 to 23"),
        ({"device": "any", "opset": "17"}, "the opset is '17': bertrt writes"),
        ({"device": "any", "opset": True}, "the opset is True: bertrt writes"),
        ({"opset": 17}, "the device 'cpu' needs opset 23, and opset 17 was asked for"),
        ({"dtype": "int8", "opset": 21}, "the device 'cpu' needs opset 23, and opset 21"),
        ({"device": "cuda", "opset": 20}, "the device 'cuda' needs opset 23, and opset 20"),
    ],
)
def test_refuses(
    make_checkpoint: Callable[..., Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    checkpoint = make_checkpoint("BertForMaskedLM", num_hidden_layers=1)
    with pytest.raises(ExportError, match=message) as caught:
        export(checkpoint, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_opset_of_the_device_any(make_checkpoint: Any, tmp_path: Path) -> None:
    """The artifact's own layout too has graphs of older opsets, and says what runs them."""
    checkpoint = make_checkpoint("BertForMaskedLM", num_hidden_layers=1)
    manifest = export(checkpoint, tmp_path / "out", device="any", opset=20)
    assert (manifest.graph.opset, manifest.graph.least_onnxruntime) == (20, "1.22.0")
    assert manifest.graph.fused == {"LayerNormalization": 4}
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        assert rt("the [MASK] sat", top_k=1)


def test_overwrite(make_checkpoint: Any, tmp_path: Path) -> None:
    """One layout replaces the other, with nothing left of it."""
    checkpoint = make_checkpoint("BertForMaskedLM", num_hidden_layers=1)
    export(checkpoint, tmp_path / "out", layout="hub")
    with pytest.raises(ExportError, match="--overwrite"):
        export(checkpoint, tmp_path / "out")
    export(checkpoint, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
