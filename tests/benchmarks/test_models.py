"""Models: a vocabulary of the right size, and checkpoints of the user's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import contender
import models
import vocabulary
from common.packages import packages_missing


def test_the_vocabulary_has_berts_size_and_reads_english_and_syllables(tmp_path: Path) -> None:
    vocabulary.write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == vocabulary.SIZE
    lines = (tmp_path / "vocab.txt").read_text().splitlines()
    assert len(lines) == len(set(lines)) == vocabulary.SIZE
    encoding = tokenizer.encode("Plants make oxygen [MASK] bababa.")
    assert "[UNK]" not in encoding.tokens
    assert [encoding.tokens[0], encoding.tokens[-1]] == ["[CLS]", "[SEP]"]
    assert [lines[id] for id in encoding.ids] == encoding.tokens


def test_a_folder_of_the_users_gets_every_head(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_checkpoint("BertForMaskedLM")
    model = models.make(str(source), tmp_path)
    assert model.name == source.name
    assert model.weights == f"of {source.name}"
    assert model.trained == ("embeddings", "fill-mask")
    for task in contender.TASKS:
        files = {path.name for path in model.checkpoint(task).iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    assert model.mask == tokenizer.token_to_id("[MASK]")
    assert models.make(str(source), tmp_path) == model


def test_a_name_that_is_neither_a_model_nor_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'bert-huge' is none of minilm, bert-base, bert-large"):
        models.make("bert-huge", tmp_path)


@pytest.mark.parametrize("name", [*contender.NAMES, *contender.GPU_NAMES])
def test_every_contender_has_the_same_shape(name: str) -> None:
    module = contender.find(name)
    assert module.TITLE
    assert set(module.TASKS) <= set(contender.TASKS)
    assert module.PRECISION in ("float32", "float16", "bfloat16", "int8")
    assert module.ENVIRONMENT in ("bench", "optimum")
    assert module.PACKAGES
    for function in ("missing", "prepare", "load"):
        assert callable(getattr(module, function))
        assert getattr(module, function).__doc__


def test_contenders_of_another_name_are_refused() -> None:
    with pytest.raises(ValueError, match="no contender is called 'tensorflow'"):
        contender.find("tensorflow")


def test_a_package_that_is_not_installed_is_named() -> None:
    assert packages_missing(("numpy",)) is None
    assert "no_such_package is not installed" in (
        packages_missing(("numpy", "no_such_package")) or ""
    )
