"""Tokenizers from vocab.json and merges.txt, or a SentencePiece model: as transformers converts."""

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers

from bertrt.errors import ExportError
from bertrt.tokenizer import Tokenizer

MAJOR = int(transformers.__version__.partition(".")[0])

SENTENCEPIECE = {
    "XLMRobertaTokenizer": "sentencepiece.bpe.model",
    "CamembertTokenizer": "sentencepiece.bpe.model",
    "AlbertTokenizer": "spiece.model",
}
MASK = {
    "content": "<mask>",
    "lstrip": True,
    "rstrip": False,
    "normalized": False,
    "single_word": False,
}

Export = Callable[..., Tokenizer]


def check_same(ours: Tokenizer, source: Path, texts: list[str]) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(source)
    for text in texts:
        for pair in (None, "the café <mask> 🙂"):
            found = ours.encode(text, pair, truncation=True)
            expected = theirs(text, pair, truncation=True, return_offsets_mapping=True)
            assert found.ids == expected["input_ids"], (source.name, text)
            assert found.offsets == expected["offset_mapping"], (source.name, text)
        assert ours.decode(found.ids) == theirs.decode(
            found.ids, clean_up_tokenization_spaces=False
        )
    for role, id in ours.facts.special_ids.items():
        assert id == getattr(theirs, f"{role}_token_id"), role


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, {}),
        ({"mask_token": {"__type": "AddedToken", **MASK}}, {}),
        ({}, {"special_tokens_map.json": {"mask_token": MASK, "cls_token": "<s>"}}),
        ({"add_prefix_space": True, "truncation_side": "left"}, {}),
        ({}, {"added_tokens.json": {"<ent>": 421}}),
        ({"tokenizer_class": None}, {}),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, {}),
    ],
    ids=[*("plain", "mask", "map", "space", "added", "by model", "generic")],
)
def test_vocabulary_and_merges(
    tiny_tokenizers: ModuleType,
    export_folder: Export,
    tmp_path: Path,
    texts: list[str],
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    files: dict[str, Any],
) -> None:
    folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    caplog.set_level(logging.WARNING, logger="bertrt")
    tiny_tokenizers.write_vocabulary(folder, **settings)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    ours = export_folder(folder, artifact)
    every = [*texts, *tiny_tokenizers.TEXTS, "a <ent> b"]
    check_same(ours, artifact, every)
    if settings.get("tokenizer_class") != "PreTrainedTokenizerFast":
        check_same(ours, folder, every)
    takes_space = ours.encode("a <mask>").ids == ours.encode("a<mask>").ids
    assert takes_space != ("takes the space before it" in caplog.text)
    if "mask_token" in settings or "special_tokens_map.json" in files or MAJOR < 5:
        assert takes_space
    assert not [name for name in ("vocab.json", "merges.txt") if (artifact / name).exists()]


@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize("settings", [{}, {"keep_accents": True, "do_lower_case": False}], ids=str)
def test_sentencepiece(
    tiny_tokenizers: ModuleType,
    export_folder: Export,
    tmp_path: Path,
    texts: list[str],
    name: str,
    settings: dict[str, Any],
) -> None:
    pytest.importorskip("sentencepiece")
    folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    tiny_tokenizers.write_sentencepiece(folder, name, SENTENCEPIECE[name], **settings)
    ours = export_folder(folder, artifact)
    every = [*texts, *tiny_tokenizers.TEXTS]
    check_same(ours, artifact, every)
    check_same(ours, folder, every)
    assert len({tuple(ours.encode(text, truncation=True).ids) for text in texts}) > 30
    ids = ours.facts.special_ids
    assert None not in ids.values()
    assert max(ids.values()) < len(ours.get_vocab())


def test_tokenizer_json_is_believed_before_a_vocabulary(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path, texts: list[str]
) -> None:
    folder = tmp_path / "checkpoint"
    tiny_tokenizers.write_vocabulary(folder)
    tiny_tokenizers.write(folder, "RobertaTokenizer")
    (folder / "vocab.json").write_text("{}")
    ours = export_folder(folder, tmp_path / "artifact")
    check_same(ours, folder, texts)


def damage(folder: Path, case: str) -> None:
    config = folder / "tokenizer_config.json"
    if case == "no merges":
        (folder / "merges.txt").unlink()
    elif case == "no vocabulary":
        (folder / "vocab.json").unlink()
    elif case == "unnamed":
        config.write_text("{}")
        (folder / "config.json").unlink()
    elif case == "another class":
        config.write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    elif case == "damaged vocabulary":
        (folder / "vocab.json").write_text('{"<s>": ')
    elif case == "a list":
        (folder / "vocab.json").write_text("[1]")
    elif case == "damaged merges":
        with (folder / "merges.txt").open("a") as file:
            file.write("one two three\n")
    elif case == "merges of another":
        with (folder / "merges.txt").open("a") as file:
            file.write("zebra crossing\n")
    elif case == "no separator":
        data = json.loads((folder / "vocab.json").read_text())
        del data["</s>"]
        (folder / "vocab.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no merges", r"has no tokenizer: add its tokenizer\.json or vocab\.json and merges\.txt"),
        ("no vocabulary", r"has no tokenizer: add .* vocab\.json and merges\.txt"),
        ("unnamed", r"has vocab\.json and merges\.txt, and no file says of which tokenizer"),
        ("another class", r"is a GPT2Tokenizer without a tokenizer\.json"),
        ("damaged vocabulary", r"vocab\.json cannot be read .*: download it again"),
        ("a list", r"vocab\.json holds a list"),
        ("damaged merges", r"files cannot be used .* or vocab\.json and merges\.txt"),
        ("merges of another", r"files cannot be used .* or vocab\.json and merges\.txt"),
        ("no separator", r"the vocabulary has no '</s>': set \"sep_token\""),
    ],
)
def test_refused_vocabularies(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path, case: str, message: str
) -> None:
    folder = tmp_path / "checkpoint"
    tiny_tokenizers.write_vocabulary(folder)
    damage(folder, case)
    with pytest.raises(ExportError, match=message) as caught:
        export_folder(folder, tmp_path / "artifact")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "artifact").iterdir())


def test_a_folder_without_any_file_names_its_class(export_folder: Export, tmp_path: Path) -> None:
    (tmp_path / "camembert").mkdir()
    (tmp_path / "camembert" / "config.json").write_text('{"model_type": "camembert"}')
    with pytest.raises(ExportError, match=r"tokenizer\.json or sentencepiece\.bpe\.model, or say"):
        export_folder(tmp_path / "camembert", tmp_path / "artifact")


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_a_damaged_sentencepiece_model(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("sentencepiece")
    file = SENTENCEPIECE[name]
    tiny_tokenizers.write_sentencepiece(tmp_path / "whole", name, file)
    for index, content in enumerate((b"", b"version https://git-lfs.github.com/spec/v1\n", None)):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / str(index))
        content = (folder / file).read_bytes()[:-100] if content is None else content
        (folder / file).write_bytes(content)
        with pytest.raises(ExportError, match=f"{file} is no SentencePiece model .* again") as e:
            export_folder(folder, tmp_path / f"{index}-artifact")
        assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "package", ["sentencepiece", "google.protobuf", "sentencepiece.sentencepiece_model_pb2"]
)
def test_a_sentencepiece_model_without_the_package(
    tiny_tokenizers: ModuleType,
    export_folder: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    tiny_tokenizers.write(tmp_path / "checkpoint", "CamembertTokenizer")
    (tmp_path / "checkpoint" / "tokenizer.json").unlink()
    (tmp_path / "checkpoint" / "sentencepiece.bpe.model").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=r"does not fit .*: pip install 'sentence"):
        export_folder(tmp_path / "checkpoint", tmp_path / "artifact")
    assert not list((tmp_path / "artifact").iterdir())
