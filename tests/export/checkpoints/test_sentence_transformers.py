"""What sentence-transformers saves beside a model is read in both spellings, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.artifact.manifest import EmbeddingFacts
from bertrt.errors import ExportError
from bertrt.export import export
from bertrt.export.checkpoints.sentence_transformers import read_embedding, settings_files

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


def read(folder: Path, lower: bool = True) -> EmbeddingFacts | None:
    tokenizer: Any = FakeTokenizer(lower)
    return read_embedding(folder, tokenizer)


POOLING = {"1_Pooling/config.json": {"pooling_mode": "cls", "embedding_dimension": 8}}


def test_a_folder_without_modules(tmp_path: Path) -> None:
    assert read(tmp_path) is None


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
        normalize=normalize,
        dimensions=None,
        max_length=64,
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
        normalize=False,
        dimensions=4,
        max_length=32,
        prompts={"query": "q: ", "document": ""},
        default_prompt_name="query",
        similarity="dot",
    )


@pytest.mark.parametrize(
    ("types", "files", "message"),
    [
        (["Transformer", "Pooling", "Dense"], POOLING, "a Dense module"),
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
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "onnx/config.json",
        "config.json",
    }
    assert sorted(settings_files(names)) == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
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
    write(folder, [f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}Dense"], POOLING)
    with pytest.raises(ExportError, match="a Dense module"):
        export(folder, tmp_path / "out", task="feature-extraction")
    assert not (tmp_path / "out").exists()
