"""Exported tokenizers give transformers' ids on hard texts, for all kinds of tokenizer files."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from bertrt.artifact.manifest import TokenizerFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import Checkpoint, Source
from bertrt.export.tokenizer.tokenizer import write_tokenizer
from bertrt.export.tokenizer.vocabulary import looks_cased, read_vocabulary
from bertrt.tokenizer import Tokenizer

MORE_TEXTS = [
    "[MASK]",
    "Hello[MASK]world [mask]",
    "<ent>Paris</ent> <ENT> </ent>",
    "e\u0301E\u0301 ÀÉ",
    "\u2028line\u3000space\x85",
    "##s # ##",
    "𝔘𝔫𝔦 ①②",
    "x" * 100 + " " + "y" * 101,
]
# Rows of the embeddings for the tokens that tests add.
SPARE = 4

MAJOR = int(transformers.__version__.partition(".")[0])

Files = dict[str, Any]
Write = Callable[..., tuple[Path, TokenizerFacts, Path]]


@pytest.fixture(scope="module")
def saved(make_checkpoint: Callable[..., Path]) -> Callable[[bool], Files]:
    """A factory of transformers' tokenizer files, for an uncased or a cased vocabulary."""

    def read(cased: bool) -> Files:
        folder = make_checkpoint("BertForMaskedLM", cased=cased)
        return {
            "vocab.txt": (folder / "vocab.txt").read_text(encoding="utf-8"),
            "tokenizer.json": json.loads((folder / "tokenizer.json").read_text()),
            "tokenizer_config.json": json.loads((folder / "tokenizer_config.json").read_text()),
        }

    return read


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes tokenizer files and exports them.

    It returns the artifact, its tokenizer's facts, and the checkpoint's folder.
    """

    def run(files: Files, **config: Any) -> tuple[Path, TokenizerFacts, Path]:
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text, encoding="utf-8")
        lines = files.get("vocab.txt", "\n" * 400).count("\n")
        config = {
            "model_type": "bert",
            "vocab_size": lines + SPARE,
            "max_position_embeddings": 64,
            **config,
        }
        (folder / "config.json").write_text(json.dumps(config))
        artifact = tmp_path / "artifact"
        artifact.mkdir()
        source = Source("checkpoint", None, "safetensors", (), "")
        facts = write_tokenizer(
            Checkpoint(config, {}, folder, folder, source),
            artifact,
            vocab_size=config["vocab_size"],
            positions=config["max_position_embeddings"],
            token_types=2,
        )
        shutil.copy(folder / "config.json", artifact)
        return artifact, facts, folder

    return run


def check_same(artifact: Path, facts: TokenizerFacts, folder: Path, texts: Sequence[str]) -> None:
    """Check that ids, pairs and decoded texts equal transformers', from either folder."""
    ours = Tokenizer((artifact / "tokenizer.json").read_text(encoding="utf-8"), facts)
    plain = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json"))
    for source in (folder, artifact):
        options = {}
        if source == folder and MAJOR < 5:
            # By default, transformers 4 cleans up spaces; 5 and bertrt do not.
            options["clean_up_tokenization_spaces"] = facts.clean_up_tokenization_spaces
        theirs = transformers.AutoTokenizer.from_pretrained(source)
        for text in [*texts, *MORE_TEXTS]:
            assert plain.encode(text).ids == theirs(text)["input_ids"], (source.name, text)
            pair, expected = plain.encode(text, "the Cat é"), theirs(text, "the Cat é")
            assert pair.ids == expected["input_ids"], (source.name, text)
            # TokenizersBackend of transformers 5 returns no types by default.
            assert pair.type_ids == expected.get("token_type_ids", pair.type_ids)
            assert ours.decode(pair.ids) == theirs.decode(pair.ids, **options), (source.name, text)
        for role, id in facts.special_ids.items():
            assert id == getattr(theirs, f"{role}_token_id")


def vocabulary_only(files: Files) -> Files:
    return {"vocab.txt": files["vocab.txt"]}


@pytest.mark.parametrize("cased", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": True},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": True, "tokenize_chinese_chars": False},
        {"do_lower_case": True, "tokenizer_class": "BertTokenizerFast", "auto_map": {"x": ["y"]}},
    ],
)
def test_from_vocabulary(
    write: Write,
    saved: Callable[[bool], Files],
    texts: list[str],
    settings: dict[str, Any],
    cased: bool,
) -> None:
    files = {**vocabulary_only(saved(cased)), "tokenizer_config.json": settings}
    check_same(*write(files), texts)


@pytest.mark.parametrize("cased", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_lower_case": True},
        {"do_lower_case": False, "strip_accents": True},
        {"tokenize_chinese_chars": False, "strip_accents": False},
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True},
    ],
)
def test_from_tokenizer_json(
    write: Write,
    saved: Callable[[bool], Files],
    texts: list[str],
    changes: dict[str, Any],
    cased: bool,
) -> None:
    files = saved(cased)
    settings = {**files["tokenizer_config.json"], **changes}
    check_same(*write({**files, "tokenizer_config.json": settings}), texts)


def test_an_uncased_vocabulary_without_a_config(
    write: Write, saved: Callable[[bool], Files], texts: list[str]
) -> None:
    check_same(*write(vocabulary_only(saved(False))), texts)


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_a_cased_vocabulary_without_a_config_keeps_capitals(
    write: Write, saved: Callable[[bool], Files], caplog: pytest.LogCaptureFixture, file: str
) -> None:
    caplog.set_level(logging.WARNING, logger="bertrt")
    artifact, _, _ = write({file: saved(True)[file]})
    tokenizer = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json"))
    assert tokenizer.encode("Paris paris É").tokens[1:4] == ["Paris", "paris", "[UNK]"]
    if file == "vocab.txt":
        assert "by its vocabulary it is cased" in caplog.text
    # transformers reads the same tokenizer from the artifact.
    theirs = transformers.AutoTokenizer.from_pretrained(artifact)
    assert theirs("Paris paris É")["input_ids"] == tokenizer.encode("Paris paris É").ids


def test_looks_cased() -> None:
    def numbered(words: list[str]) -> dict[str, int]:
        return {word: i for i, word in enumerate(words)}

    assert not looks_cased(numbered(["[PAD]", "[UNK]", "[unused1]", "the", "##s", "中", "é", "!"]))
    assert looks_cased(numbered(["the", "The", "##s", "##S"]))
    lower = [f"word{i}" for i in range(200)]
    assert not looks_cased(numbered([*lower, "Odd"]))
    assert not looks_cased({})


NAMES = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}


@pytest.mark.parametrize(
    "token",
    [lambda name: name, lambda name: {"__type": "AddedToken", "content": name, "lstrip": True}],
)
def test_other_names_of_special_tokens(
    write: Write, saved: Callable[[bool], Files], texts: list[str], token: Callable[[str], Any]
) -> None:
    vocab = saved(False)["vocab.txt"]
    for role, name in NAMES.items():
        vocab = vocab.replace(f"[{role.upper()}]", name)
    settings = {f"{role}_token": name for role, name in NAMES.items()}
    settings["mask_token"] = token(settings["mask_token"])
    files = {"vocab.txt": vocab, "tokenizer_config.json": {"do_lower_case": True, **settings}}
    artifact, facts, folder = write(files)
    assert facts.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    check_same(artifact, facts, folder, [*texts, "a <mask>b"])


@pytest.mark.parametrize("kind", ["added", "decoder", "additional", "map"])
def test_added_tokens(
    write: Write, saved: Callable[[bool], Files], texts: list[str], kind: str
) -> None:
    files = vocabulary_only(saved(False))
    size = files["vocab.txt"].count("\n")
    settings: Files = {"do_lower_case": True}
    entity = {"content": "<ent>", "lstrip": True, "rstrip": False, "normalized": True}
    if kind == "added":
        files["added_tokens.json"] = {"</ent>": size + 1, "<ent>": size}
    elif kind == "decoder":
        settings["added_tokens_decoder"] = {
            str(size): {**entity, "single_word": False, "special": False}
        }
    elif kind == "additional":
        settings["additional_special_tokens"] = ["<ent>", "</ent>"]
    else:
        files["special_tokens_map.json"] = {"additional_special_tokens": ["</ent>", "<ent>"]}
    files["tokenizer_config.json"] = settings
    check_same(*write(files), texts)


def test_added_token_with_an_impossible_id(write: Write, saved: Callable[[bool], Files]) -> None:
    files = vocabulary_only(saved(False))
    files["added_tokens.json"] = {"<ent>": 300}
    with pytest.raises(ExportError, match="'<ent>' has the id 300"):
        write(files)


def test_truncation_and_padding_are_off(write: Write, saved: Callable[[bool], Files]) -> None:
    files = saved(False)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(files["tokenizer.json"]))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(direction="left", length=9)
    artifact, facts, _ = write({**files, "tokenizer.json": json.loads(tokenizer.to_str())})
    state = json.loads((artifact / "tokenizer.json").read_text())
    assert (state["truncation"], state["padding"]) == (None, None)
    assert facts.padding_side == "right"
    assert len(facts.golden) >= 4
    assert any(len(ids) > 9 for _, ids in facts.golden)


def test_a_missing_template_is_added(write: Write, saved: Callable[[bool], Files]) -> None:
    files = saved(False)
    files["tokenizer.json"]["post_processor"] = None
    artifact, _, _ = write(files)
    encoding = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json")).encode("a", "b")
    assert encoding.tokens == ["[CLS]", "a", "[SEP]", "b", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("model_max_length", "expected"),
    [
        (32, 32),
        (512, 64),
        (1000000000000000019884624838656, 64),
        (1e30, 64),
        (float("inf"), 64),
        (float("nan"), 64),
        (None, 64),
        (0, 64),
        (-1, 64),
        ("512", 64),
        (True, 64),
    ],
)
def test_longest_input(
    write: Write, saved: Callable[[bool], Files], model_max_length: Any, expected: int
) -> None:
    files = saved(False)
    settings = {**files["tokenizer_config.json"], "model_max_length": model_max_length}
    _, facts, _ = write({**files, "tokenizer_config.json": settings})
    assert facts.max_length == expected


def test_vocabulary_file(write: Write, saved: Callable[[bool], Files]) -> None:
    files = saved(False)
    artifact, _, _ = write({"tokenizer.json": files["tokenizer.json"]})
    assert (artifact / "vocab.txt").read_text(encoding="utf-8") == files["vocab.txt"]


def test_repeated_and_odd_lines_of_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\n the \na\u2028b\n\na\na".encode())
    assert read_vocabulary(path) == {"[PAD]": 0, " the ": 1, "a\u2028b": 2, "": 3, "a": 5}


@pytest.mark.filterwarnings("ignore")
def test_a_repeated_line_does_not_change_ids(
    write: Write, saved: Callable[[bool], Files], texts: list[str]
) -> None:
    files = vocabulary_only(saved(False))
    files["vocab.txt"] += "the\nzebra\n"
    files["tokenizer_config.json"] = {"do_lower_case": True}
    artifact, facts, folder = write(files)
    check_same(artifact, facts, folder, texts)
    assert read_vocabulary(artifact / "vocab.txt")["zebra"] == files["vocab.txt"].count("\n") - 1


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({"vocab.txt": None}, {}, "has no tokenizer"),
        ({"vocab.txt": ""}, {}, "is empty"),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n"}, {}, r"no '\[SEP\]'.* to its sep token"),
        ({"vocab.txt": "[PAD]\n[CLS]\n[SEP]\n"}, {}, r"no '\[UNK\]'"),
        ({}, {"vocab_size": 100}, "model's vocab_size is 100"),
        ({}, {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer"),
        (
            {"tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"}},
            {},
            "BertJapaneseTokenizer",
        ),
        (
            {"tokenizer_config.json": {"tokenizer_class": "XLNetTokenizer"}},
            {},
            "XLNetTokenizer without a tokenizer.json",
        ),
        ({"tokenizer.json": "{"}, {}, "tokenizer.json cannot be read"),
        ({"tokenizer.json": {"model": {"type": "Nothing"}}}, {}, "tokenizer.json cannot be used"),
        ({"tokenizer_config.json": "[1]"}, {}, "not a JSON object"),
        ({"tokenizer_config.json": {"do_lower_case": "yes"}}, {}, "do_lower_case .* is 'yes'"),
        ({"tokenizer_config.json": {"unk_token": 7}}, {}, "unk_token .* is 7"),
        ({"tokenizer_config.json": {"added_tokens_decoder": ["x"]}}, {}, "decoder .* be used"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"a": {}}}}, {}, "decoder .* be used"),
        ({"tokenizer_config.json": {"truncation_side": "middle"}}, {}, "side .* is 'middle'"),
        ({"tokenizer_config.json": {"never_split": "all"}}, {}, "never_split .* is 'all'"),
        ({"tokenizer_config.json": {"model_input_names": 3}}, {}, "model_input_names .* is 3"),
        ({"added_tokens.json": {"<ent>": "last"}}, {}, "'<ent>' the id 'last'"),
    ],
)
def test_tokenizers_that_are_refused(
    write: Write,
    saved: Callable[[bool], Files],
    change: Files,
    config: dict[str, Any],
    message: str,
) -> None:
    files = {**vocabulary_only(saved(False)), **change}
    with pytest.raises(ExportError, match=message) as caught:
        write({name: text for name, text in files.items() if text is not None}, **config)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_is_not_text(write: Write, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(ExportError, match="not UTF-8 text"):
        read_vocabulary(tmp_path / "vocab.txt")
