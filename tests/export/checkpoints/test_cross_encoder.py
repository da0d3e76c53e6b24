"""The activation of a cross-encoder is read from where sentence-transformers saves it."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bertrt.artifact.manifest import CrossEncoderFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.cross_encoder import is_reranker, read_cross_encoder

TORCH = "torch.nn.modules."
IDENTITY, TANH = f"{TORCH}linear.Identity", f"{TORCH}activation.Tanh"


@pytest.mark.parametrize(
    ("config", "files", "labels", "expected"),
    [
        ({}, {}, 1, "sigmoid"),
        ({}, {}, 2, "identity"),
        (
            {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1"}},
            {},
            1,
            "identity",
        ),
        ({"sentence_transformers": {"version": "4.1"}}, {}, 1, "sigmoid"),
        ({"sbert_ce_default_activation_function": TANH}, {}, 3, "tanh"),
        (
            {
                "sentence_transformers": {"activation_fn": IDENTITY},
                "sbert_ce_default_activation_function": TANH,
            },
            {},
            1,
            "identity",
        ),
        (
            {"sentence_transformers": {"activation_fn": IDENTITY}},
            {"activation_fn": TANH, "model_type": "CrossEncoder"},
            1,
            "tanh",
        ),
        # Code of its own is passed over, and null in the config is not.
        (
            {"sentence_transformers": {"activation_fn": IDENTITY}},
            {"activation_fn": "custom.Squash", "model_type": "CrossEncoder"},
            1,
            "identity",
        ),
        (
            {
                "sentence_transformers": {"activation_fn": None},
                "sbert_ce_default_activation_function": TANH,
            },
            {},
            1,
            "sigmoid",
        ),
        # Of another kind of model, or without modules.json, the file says nothing of a classifier.
        ({}, {"activation_fn": TANH, "model_type": "SentenceTransformer"}, 1, "sigmoid"),
        ({}, {"activation_fn": None, "model_type": "CrossEncoder"}, 1, "sigmoid"),
    ],
)
def test_activation(
    config: dict[str, Any], files: dict[str, Any], labels: int, expected: str, tmp_path: Path
) -> None:
    if files:
        (tmp_path / "modules.json").write_text("[]")
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(files))
    assert read_cross_encoder(tmp_path, config, labels).activation == expected


def test_prompts(tmp_path: Path) -> None:
    settings = {"model_type": "CrossEncoder", "prompts": {"q": "find: ", "p": None}}
    path = tmp_path / "config_sentence_transformers.json"
    path.write_text(json.dumps({**settings, "default_prompt_name": "q"}))
    assert read_cross_encoder(tmp_path, {}, 1) == CrossEncoderFacts("sigmoid", {}, None)
    (tmp_path / "modules.json").write_text("[]")
    expected = CrossEncoderFacts("sigmoid", {"q": "find: ", "p": ""}, "q")
    assert read_cross_encoder(tmp_path, {}, 1) == expected
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    assert read_cross_encoder(tmp_path, {}, 1) == replace(expected, max_length=9)
    path.write_text(json.dumps({**settings, "default_prompt_name": "query"}))
    with pytest.raises(ExportError, match="is 'query', and its prompts are q, p: correct it"):
        read_cross_encoder(tmp_path, {}, 1)


def test_settings_without_modules_say_nothing(tmp_path: Path) -> None:
    settings = {"activation_fn": TANH, "model_type": "CrossEncoder"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert read_cross_encoder(tmp_path, {}, 1).activation == "sigmoid"


def test_other_code_is_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="bertrt")
    config = {"sbert_ce_default_activation_function": "os.abort"}
    assert read_cross_encoder(tmp_path, config, 1).activation == "sigmoid"
    assert "'os.abort' is not PyTorch's own and is not used" in caplog.text


def test_an_activation_that_bertrt_lacks_is_refused(tmp_path: Path) -> None:
    config = {"sentence_transformers": {"activation_fn": f"{TORCH}activation.Softplus"}}
    with pytest.raises(ExportError, match=r"Softplus', which bertrt does not have"):
        read_cross_encoder(tmp_path, config, 1)


@pytest.mark.parametrize(
    ("config", "files", "labels", "expected"),
    [
        ({}, {}, 1, True),
        ({}, {}, 2, False),
        ({"sbert_ce_default_activation_function": IDENTITY}, {}, 3, False),
        ({"problem_type": "regression"}, {}, 1, False),
        ({"problem_type": None}, {}, 1, True),
        ({"problem_type": "regression", "sbert_ce_default_activation_function": TANH}, {}, 1, True),
        ({"problem_type": "regression", "sentence_transformers": {"version": "5"}}, {}, 1, True),
        ({"problem_type": "regression"}, {"model_type": "CrossEncoder"}, 1, True),
        ({"problem_type": "regression"}, {"model_type": "SentenceTransformer"}, 1, False),
    ],
)
def test_rerankers(
    config: dict[str, Any], files: dict[str, Any], labels: int, expected: bool, tmp_path: Path
) -> None:
    if files:
        (tmp_path / "modules.json").write_text("[]")
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(files))
    assert is_reranker(tmp_path, config, labels) is expected
