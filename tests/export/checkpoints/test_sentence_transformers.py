"""What sentence-transformers saves beside a model is read in both spellings, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from bertrt.artifact.manifest import EmbeddingFacts
from bertrt.errors import ExportError
from bertrt.export import export
from bertrt.export.checkpoints.module_list import read_module_list
from bertrt.export.checkpoints.sentence_transformers import read_embedding, settings_files
from bertrt.export.checkpoints.transformer_subfolder import transformer_subfolder
from bertrt.export.checkpoints.vector_modules import read_vector_modules

OLD = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules."
BASE = "sentence_transformers.base.modules."


class FakeTokenizer:
    """A tokenizer of 64 tokens that may lower-case."""

    max_length = 64

    def __init__(self, lower: bool = True) -> None:
        self.lower = lower

    def encode(self, text: str) -> Any:
        return type("Encoding", (), {"ids": list((text.lower() if self.lower else text).encode())})


def write(folder: Path, types: list[str], files: dict[str, Any]) -> None:
    entries = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{name.rpartition('.')[2]}" if i else "",
            "type": name,
        }
        for i, name in enumerate(types)
    ]
    for name, content in {"modules.json": entries, **files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def read(folder: Path, lower: bool = True) -> EmbeddingFacts:
    tokenizer: Any = FakeTokenizer(lower)
    return read_embedding(folder, folder, tokenizer, read_vector_modules(folder, 8))


POOLING = {"1_Pooling/config.json": {"pooling_mode": "cls", "embedding_dimension": 8}}


def test_a_folder_without_modules(tmp_path: Path) -> None:
    assert read(tmp_path) == EmbeddingFacts(
        pooling=("mean",),
        include_prompt=True,
        modules=("Normalize",),
        size=8,
        dimensions=None,
        max_length=64,
        truncation=False,
        prompts={"query": "", "document": ""},
        default_prompt_name=None,
        similarity="cosine",
    )


@pytest.mark.parametrize(
    ("types", "pooling", "expected", "normalize"),
    [
        (
            [f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}Normalize"],
            {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
            ("mean",),
            True,
        ),
        (
            [f"{BASE}transformer.Transformer", f"{NEW}pooling.Pooling"],
            {"pooling_mode": "lasttoken"},
            ("lasttoken",),
            False,
        ),
        (
            [
                f"{BASE}transformer.Transformer",
                f"{NEW}pooling.Pooling",
                f"{BASE}normalize.Normalize",
            ],
            {"pooling_mode": ["mean", "cls"], "include_prompt": True},
            ("mean", "cls"),
            True,
        ),
        ([f"{OLD}Transformer", f"{OLD}Pooling"], {"word_embedding_dimension": 8}, ("mean",), False),
        (
            [f"{OLD}Transformer", f"{OLD}Pooling"],
            {
                "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": True,
                "pooling_mode_weightedmean_tokens": True,
                "pooling_mode_mean_sqrt_len_tokens": True,
                "pooling_mode_lasttoken": True,
                "pooling_mode_cls_token": True,
            },
            ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"),
            False,
        ),
    ],
)
def test_modules(
    tmp_path: Path,
    types: list[str],
    pooling: dict[str, Any],
    expected: tuple[str, ...],
    normalize: bool,
) -> None:
    write(tmp_path, types, {"1_Pooling/config.json": pooling})
    facts = read(tmp_path)
    assert facts == EmbeddingFacts(
        pooling=expected,
        include_prompt=True,
        modules=("Normalize",) * normalize,
        size=8 * len(expected),
        dimensions=None,
        max_length=64,
        truncation=True,
        prompts={"query": "", "document": ""},
        default_prompt_name=None,
        similarity="cosine",
    )


def test_settings(tmp_path: Path) -> None:
    files = {
        "1_Pooling/config.json": {"pooling_mode": "cls", "include_prompt": False},
        "sentence_roberta_config.json": {"max_seq_length": 32, "do_lower_case": True},
        "config_sentence_transformers.json": {
            "prompts": {"query": "q: ", "document": None},
            "default_prompt_name": "query",
            "similarity_fn_name": "dot",
            "truncate_dim": 4,
        },
    }
    write(tmp_path, [f"{OLD}Transformer", f"{OLD}Pooling"], files)
    assert read(tmp_path) == EmbeddingFacts(
        pooling=("cls",),
        include_prompt=False,
        modules=(),
        size=8,
        dimensions=4,
        max_length=32,
        truncation=True,
        prompts={"query": "q: ", "document": ""},
        default_prompt_name="query",
        similarity="dot",
    )


@pytest.mark.parametrize(
    ("types", "files", "message"),
    [
        (["Transformer", "Pooling", "CNN"], POOLING, "a CNN module"),
        (["Transformer", "Pooling", "Pooling"], POOLING, "the modules Transformer, Pooling, P"),
        (["Transformer", "Pooling", "Dense"], POOLING, "'2_Dense' has no config.json"),
        (
            ["Transformer", "WeightedLayerPooling", "Pooling"],
            POOLING,
            "WeightedLayerPooling module",
        ),
        (["Transformer", "Normalize", "Pooling"], POOLING, "the modules Transformer, Normalize, P"),
        (["Transformer"], {}, "the modules Transformer, and"),
        (["Transformer", "Pooling"], {}, "'1_Pooling' has no config.json"),
        (
            ["Transformer", "Pooling"],
            {"1_Pooling/config.json": {"pooling_mode": "median"}},
            "1_Pooling/config.json is 'median': bertrt has cls, max",
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "modules.json": "[1]"},
            "modules.json cannot be r",
        ),
        (["Transformer", "Pooling"], {**POOLING, "modules.json": "{"}, "modules.json cannot be r"),
        (["Transformer", "Pooling"], {**POOLING, "modules.json": "{}"}, "it lists no modules"),
        (["Transformer", "Pooling"], {**POOLING, "modules.json": "[]"}, "it lists no modules"),
        (
            ["Transformer", "Pooling"],
            {"1_Pooling/config.json": "{"},
            "^1_Pooling/config.json cannot be read",
        ),
        (
            ["Transformer", "Pooling", "Normalize"],
            {**POOLING, "2_Normalize/config.json": {"module_input_name": "token_embeddings"}},
            "module_input_name in 2_Normalize/config.json is 'token_embeddings'",
        ),
        *(
            (
                ["Transformer", "Pooling"],
                {**POOLING, "sentence_bert_config.json": {name: value}},
                f"settings give {name} .*: remove it",
            )
            for name, value in {
                "query_length": 32,
                "document_length": 64,
                "query_expansion": {"strategy": "fixed", "length": 32},
                "processing_kwargs": {"text": {"max_length": 16}},
            }.items()
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "sentence_bert_config.json": {"max_seq_length": 0}},
            "max_seq_length is 0",
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "config_sentence_transformers.json": {"prompts": ["a"]}},
            "prompts in config_sentence_transformers.json are",
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "config_sentence_transformers.json": {"default_prompt_name": "passage"}},
            "default_prompt_name .* is 'passage', and its prompts are query, document",
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "config_sentence_transformers.json": {"default_prompt_name": ["query"]}},
            r"default_prompt_name .* is \['query'\], and its prompts are query, document",
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "config_sentence_transformers.json": {"similarity_fn_name": ["dot"]}},
            r"similarity_fn_name .* is \['dot'\]: bertrt has cosine",
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "config_sentence_transformers.json": {"similarity_fn_name": "maxsim"}},
            "similarity_fn_name .* is 'maxsim': bertrt has cosine",
        ),
        (
            ["Transformer", "Pooling"],
            {**POOLING, "config_sentence_transformers.json": {"truncate_dim": "8"}},
            "truncate_dim .* is '8'",
        ),
    ],
)
def test_what_is_refused(
    tmp_path: Path, types: list[str], files: dict[str, Any], message: str
) -> None:
    write(tmp_path, [f"{OLD}{name}" for name in types], files)
    with pytest.raises(ExportError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


DENSE = {"in_features": 8, "out_features": 3, "activation_function": "torch.nn.Tanh"}
WEIGHTS = {"linear.weight": torch.zeros(3, 8), "linear.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        ({**DENSE, "in_features": 9}, WEIGHTS, "9 in_features and 3 out_features, and .* give 8"),
        ({**DENSE, "out_features": 0}, WEIGHTS, "8 in_features and 0 out_features"),
        ({**DENSE, "out_features": True}, WEIGHTS, "8 in_features and True out_features"),
        ({"activation_function": "torch.nn.Tanh"}, WEIGHTS, "None in_features and None out_f"),
        (DENSE, None, r"'2_Dense' has no model.safetensors or pytorch_model.bin: download"),
        (DENSE, {"linear.weight": torch.zeros(3, 8)}, "holds linear.weight, and the module needs"),
        (DENSE, {}, "holds no weights, and the module needs linear.bias, linear.weight"),
        (
            {**DENSE, "bias": False},
            WEIGHTS,
            r"holds linear.bias, linear.weight, and the module needs linear.weight: download",
        ),
        (
            DENSE,
            {**WEIGHTS, "linear.weight": torch.zeros(4, 8)},
            r"linear.weight in 2_Dense/\S+ has shape \[4, 8\], and config.json says \[3, 8\]",
        ),
        ({**DENSE, "use_residual": True}, WEIGHTS, "the module needs .* residual.weight"),
        (
            {**DENSE, "activation_function": "custom.Squash"},
            WEIGHTS,
            "activation_function in 2_Dense/config.json is 'custom.Squash', and bertrt has the act",
        ),
        ({**DENSE, "activation_function": "torch.tanh"}, WEIGHTS, "is 'torch.tanh', and bertrt"),
        *(
            # These need arguments, fail when called, give no vector, and give another size.
            ({**DENSE, "activation_function": f"torch.nn.{name}"}, WEIGHTS, f"is 'torch.nn.{name}'")
            for name in ("Threshold", "Module", "CrossEntropyLoss", "Unflatten", "LSTM", "GLU")
        ),
        (
            {**DENSE, "module_input_name": "token_embeddings"},
            WEIGHTS,
            "module_input_name in 2_Dense/config.json is 'token_embeddings', and bertrt has",
        ),
    ],
)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_dense_that_is_refused(
    tmp_path: Path, config: dict[str, Any], weights: Any, message: str, file: str
) -> None:
    types = [f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}Dense"]
    write(tmp_path, types, {**POOLING, "2_Dense/config.json": config})
    if weights is not None:
        save(weights, tmp_path / "2_Dense" / file)
    with pytest.raises(ExportError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def save(weights: dict[str, torch.Tensor], path: Path) -> None:
    if path.suffix == ".bin":
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_modules_with_weights(tmp_path: Path, file: str) -> None:
    """In float16, as some are saved, and with a Dropout, which acts in training only."""
    types = [f"{OLD}{name}" for name in ("Transformer", "Pooling", "Dropout")]
    types += [f"{BASE}dense.Dense", f"{NEW}layer_norm.LayerNorm", f"{OLD}Normalize"]
    files = {"3_Dense/config.json": DENSE, "4_LayerNorm/config.json": {"dimension": 3}}
    write(tmp_path, types, {**POOLING, **files})
    random = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 8, generator=random).half()
    save({**WEIGHTS, "linear.weight": weight}, tmp_path / "3_Dense" / file)
    norm = {"norm.weight": torch.full((3,), 2.0), "norm.bias": torch.ones(3)}
    save(norm, tmp_path / "4_LayerNorm" / file)
    vectors = read_vector_modules(tmp_path, 8)
    assert vectors.names == ("Dense", "LayerNorm", "Normalize")
    assert read(tmp_path).size == vectors.size == 3
    hidden = torch.randn(2, 5, 8, generator=random)
    expected = torch.tanh(hidden[:, 0] @ weight.float().T)
    expected = 2 * torch.nn.functional.layer_norm(expected, (3,)) + 1
    expected = torch.nn.functional.normalize(expected)
    np.testing.assert_allclose(vectors.vectors(hidden.numpy(), [5, 2]), expected, atol=1e-6)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("path", ["../other", "/other", "x/../../other", ".."])
def test_a_path_that_leaves_the_folder(tmp_path: Path, index: int, path: str) -> None:
    entries = [{"type": f"{OLD}{name}", "path": ""} for name in ("Transformer", "Pooling")]
    entries[index]["path"] = path
    (tmp_path / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ExportError, match=r"modules.json cannot be read .*leaves the model's"):
        read_module_list(tmp_path / "modules.json")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("", ""), (".", ""), ("./", ""), ("0_Transformer/", "0_Transformer"), ("./a//b", "a/b")],
)
def test_spellings_of_a_subfolder(tmp_path: Path, path: str, expected: str) -> None:
    entries = [{"type": f"{OLD}Transformer", "path": path}]
    (tmp_path / "modules.json").write_text(json.dumps(entries))
    assert transformer_subfolder(["modules.json"], tmp_path.joinpath) == expected


def test_a_layer_norm_of_another_size(tmp_path: Path) -> None:
    types = [f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}LayerNorm"]
    write(tmp_path, types, {**POOLING, "2_LayerNorm/config.json": {"dimension": 9}})
    with pytest.raises(ExportError, match="has the dimension 9, and the modules before it give 8"):
        read(tmp_path)


def test_a_dense_after_a_pooling_without_the_prompt(tmp_path: Path) -> None:
    types = [f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}Dense"]
    pooling = {"1_Pooling/config.json": {"pooling_mode": "cls", "include_prompt": False}}
    write(tmp_path, types, {**pooling, "2_Dense/config.json": DENSE})
    save(WEIGHTS, tmp_path / "2_Dense" / "model.safetensors")
    with pytest.raises(ExportError, match="include_prompt is false and a Dense or LayerNorm"):
        read(tmp_path)


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path, [f"{OLD}Transformer", "custom_st.Pooling"], POOLING)
    with pytest.raises(ExportError, match=r"a custom_st\.Pooling module"):
        read(tmp_path)


def test_lower_case_beside_a_cased_tokenizer(tmp_path: Path) -> None:
    files = {**POOLING, "sentence_bert_config.json": {"do_lower_case": True}}
    write(tmp_path, [f"{OLD}Transformer", f"{OLD}Pooling"], files)
    assert read(tmp_path, lower=True) is not None
    with pytest.raises(ExportError, match="say do_lower_case, and the tokenizer keeps capitals"):
        read(tmp_path, lower=False)


def test_files_of_a_hub_model() -> None:
    names = {
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "2_Dense/pytorch_model.bin",
        "3_Dense/config.json",
        "3_Dense/pytorch_model.bin",
        "0_Transformer/config.json",
        "0_Transformer/model.safetensors",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "onnx/config.json",
        "config.json",
    }
    assert sorted(settings_files(names)) == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "3_Dense/config.json",
        "3_Dense/pytorch_model.bin",
        "config_sentence_transformers.json",
        "modules.json",
        "sentence_bert_config.json",
    ]


def test_nothing_is_written_of_a_refused_model(
    tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(make_checkpoint("BertModel"), folder)
    write(folder, [f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}WordWeights"], POOLING)
    with pytest.raises(ExportError, match="a WordWeights module"):
        export(folder, tmp_path / "out", task="feature-extraction")
    assert not (tmp_path / "out").exists()
