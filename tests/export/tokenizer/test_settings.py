"""Settings beside a vocabulary change ids as they do in transformers, or are refused by name."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from bertrt.artifact.manifest import TokenizerFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import Checkpoint, Source
from bertrt.export.tokenizer.tokenizer import write_tokenizer
from bertrt.export.tokenizer.tokenizer_json import use_one_token_type
from bertrt.tokenizer import Tokenizer
from bertrt.tokens import pad

MAJOR = int(transformers.__version__.partition(".")[0])

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] the boat is red café cafe 中 ##s un ##believ , . [ ] sep mask "
    "The Boat résumé < > ent e ##ent"
).split()
SIZE = len(WORDS)
# Embeddings for the tokens that tests add.
SPARE = 4
TEXTS = (
    "",
    "the boat [SEP] is red",
    "The Boats, unbelievs. café CAFE résumé cafe\u0301",
    "the RED mask, The red Mask ÉNT ent",
    "中中 the <ent>boat <ent> xboatx [MASK]the x[MASK]  x",
    "[sep] [mask] is[MASK] red [CLS][PAD]",
    "the boat is red . the boat , is un . red boat",
)
SETTINGS: dict[str, Any] = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": True,
    "model_max_length": 64,
    "clean_up_tokenization_spaces": False,
}

Files = dict[str, Any]
Write = Callable[..., tuple[Path, TokenizerFacts, Path]]


def token(content: str, **flags: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized", "special"), False)
    return {"content": content, **plain, **flags}


def normalized(content: str) -> dict[str, Any]:
    return token(content, special=True, normalized=True)


SPECIAL = {str(id): token(name, special=True) for id, name in enumerate(WORDS[:5])}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a tokenizer's files and exports them.

    It returns the artifact, its tokenizer's facts, and the checkpoint's folder.
    """

    def run(settings: Files, files: Files | None = None, **config: Any) -> Any:
        folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
        folder.mkdir()
        artifact.mkdir()
        everything = {
            "vocab.txt": "".join(f"{word}\n" for word in WORDS),
            "tokenizer_config.json": {**SETTINGS, **settings},
            **(files or {}),
        }
        config = {
            "model_type": "bert",
            "vocab_size": SIZE + SPARE,
            "max_position_embeddings": 64,
            **config,
        }
        for name, content in {**everything, "config.json": config}.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text, encoding="utf-8")
        (artifact / "config.json").write_text(json.dumps(config))
        source = Source("checkpoint", None, "safetensors", (), "")
        facts = write_tokenizer(
            Checkpoint(config, {}, folder, folder, source),
            artifact,
            vocab_size=config["vocab_size"],
            positions=config["max_position_embeddings"],
            token_types=config.get("type_vocab_size", 2),
        )
        return artifact, facts, folder

    return run


@pytest.fixture
def tokenizer_json(tmp_path: Path) -> Callable[..., Files]:
    """A function that returns the tokenizer.json which transformers saves, with some changes."""

    def make(**changes: Any) -> Files:
        folder = tmp_path / "saved"
        folder.mkdir()
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
        saved = transformers.BertTokenizerFast.from_pretrained(folder)
        state: Files = json.loads(saved.backend_tokenizer.to_str())
        return {"tokenizer.json": {**state, **changes}}

    return make


def check(artifact: Path, facts: TokenizerFacts, folder: Path) -> None:
    """Check that ids, types and truncated ids equal transformers', from either folder."""
    json_text = (artifact / "tokenizer.json").read_text(encoding="utf-8")
    ours = Tokenizer(json_text, facts)
    plain = tokenizers.Tokenizer.from_str(json_text)
    special = []
    for source in (folder, artifact):
        theirs = transformers.AutoTokenizer.from_pretrained(source)
        special.append(sorted(theirs.all_special_ids))
        for text in TEXTS:
            expected = theirs(text)["input_ids"]
            assert ours.encode(text).ids == expected, (source.name, text)
            assert plain.encode(text).ids == expected, (source.name, text)
            pair = pad([ours.encode(text, "is red")], ours.pad_id)
            batch = theirs(text, "is red")
            assert pair["input_ids"][0].tolist() == batch["input_ids"], (source.name, text)
            zeros = [0] * len(batch["input_ids"])
            assert pair["token_type_ids"][0].tolist() == batch.get("token_type_ids", zeros)
            for options in ({"max_length": 5}, {"max_length": 8, "truncation": "only_first"}):
                for texts in ((text,), (text, "is red")):
                    if len(texts) == 2 and options["max_length"] == 5:
                        continue
                    kept = theirs(*texts, **{"truncation": True, **options})["input_ids"]
                    found = ours.encode(*texts, **{"truncation": True, **options}).ids
                    assert found == kept, (source.name, texts, options)
            ids = [*expected, *batch["input_ids"]]
            assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(
                ids, skip_special_tokens=True
            )
        for role, id in facts.special_ids.items():
            assert id == getattr(theirs, f"{role}_token_id"), (source.name, role)
    assert special[0] == special[1]


CHANGES: dict[str, Files] = {
    "plain": {},
    "no token types": {"model_input_names": ["input_ids", "attention_mask"]},
    "DistilBERT's class": {"tokenizer_class": "DistilBertTokenizer"},
    "DistilBERT's class with token types": {
        "tokenizer_class": "DistilBertTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    },
    "ELECTRA's class": {"tokenizer_class": "ElectraTokenizer"},
    "truncation on the left": {"truncation_side": "left"},
    "special tokens are text": {"split_special_tokens": True},
    "special tokens are text, others not": {
        "split_special_tokens": True,
        "added_tokens_decoder": {**SPECIAL, str(SIZE): token("<ent>")},
    },
    "special tokens are text, an added one too": {
        "split_special_tokens": True,
        "truncation_side": "left",
        "added_tokens_decoder": {**SPECIAL, str(SIZE): token("<ent>", special=True)},
    },
    "accents stay": {"strip_accents": False},
    "accents go, capitals stay": {"strip_accents": True, "do_lower_case": False},
    "no CJK": {"tokenize_chinese_chars": False},
    "lstrip": {
        "added_tokens_decoder": {**SPECIAL, "4": token("[MASK]", special=True, lstrip=True)}
    },
    "rstrip": {"added_tokens_decoder": {str(SIZE): token("<ent>", rstrip=True)}},
    "single_word": {"added_tokens_decoder": {str(SIZE): token("boatx"), "6": token("boat")}},
    "a whole word": {"added_tokens_decoder": {"6": token("boat", single_word=True)}},
    "normalized": {"added_tokens_decoder": {str(SIZE): token("xboat", normalized=True)}},
    # Each stands for its lower-cased form, which is another token of the vocabulary or none.
    "normalized and special": {"added_tokens_decoder": {**SPECIAL, "21": normalized("The")}},
    "normalized, special and new": {
        "added_tokens_decoder": {**SPECIAL, str(SIZE): normalized("ÉNT")},
        "additional_special_tokens": ["ÉNT"],
    },
    "normalized mask_token": {
        "mask_token": "MASK",
        "added_tokens_decoder": {**SPECIAL, str(SIZE): normalized("MASK")},
    },
    "normalized, special tokens are text": {
        "split_special_tokens": True,
        "added_tokens_decoder": {**SPECIAL, "21": normalized("The")},
    },
    "special": {"added_tokens_decoder": {**SPECIAL, "8": token("red", special=True)}},
    "sep_token": {"sep_token": "red"},
    "cls_token as a dict": {"cls_token": {"__type": "AddedToken", **token("boat", lstrip=True)}},
    "unk_token": {"unk_token": "ent"},
    "mask_token": {"mask_token": "<ent>", "added_tokens_decoder": {str(SIZE): token("<ent>")}},
    "no mask_token": {"mask_token": None},
    "a new cls_token": {"cls_token": "<s>"},
    "bos_token": {"bos_token": "<s>", "eos_token": "</s>"},
    "additional": {"additional_special_tokens": ["<ent>", "boat"]},
    "additional by name": {"extra_special_tokens": {"entity_token": "<ent>"}},
    "max_len": {"max_len": 32},
    "harmless slow settings": {
        "do_basic_tokenize": True,
        "never_split": ["boat", "[MASK]", "none"],
    },
    "no slow settings": {"do_basic_tokenize": None, "never_split": None},
}


@pytest.mark.parametrize("name", CHANGES)
def test_settings_of_a_vocabulary(write: Write, name: str) -> None:
    artifact, facts, folder = write(CHANGES[name])
    check(artifact, facts, folder)
    ours = Tokenizer((artifact / "tokenizer.json").read_text(encoding="utf-8"), facts)
    assert ours.mask_is_text == bool(CHANGES[name].get("split_special_tokens"))


@pytest.mark.parametrize("name", CHANGES)
def test_settings_beside_a_tokenizer_json(
    write: Write, tokenizer_json: Callable[..., Files], name: str
) -> None:
    check(*write(CHANGES[name], tokenizer_json()))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"truncation_side": "left"},
        {"split_special_tokens": True},
        {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
        {"model_input_names": ["input_ids", "attention_mask"]},
        {"added_tokens_decoder": {str(SIZE): token("<ent>", lstrip=True)}},
        {"sep_token": "red", "do_lower_case": False},
    ],
)
def test_a_generic_class_uses_tokenizer_json_as_it_is(
    write: Write, tokenizer_json: Callable[..., Files], changes: Files
) -> None:
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    generic = {"tokenizer_class": "PreTrainedTokenizerFast", **names, **changes}
    if MAJOR >= 5 and "model_input_names" not in changes:
        # The generic class of transformers 5 returns no token types by default.
        with_types = [*transformers.BertTokenizerFast.model_input_names]
        artifact, facts, folder = write(generic, tokenizer_json())
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["model_input_names"] = with_types
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        check(artifact, facts, folder)
    else:
        check(*write(generic, tokenizer_json()))


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, {"special_tokens_map.json": {"sep_token": "red", "mask_token": token("ent")}}),
        ({"sep_token": "boat"}, {"special_tokens_map.json": {"sep_token": "red"}}),
        (
            {"sep_token": "boat", "added_tokens_decoder": SPECIAL},
            {"special_tokens_map.json": {"sep_token": "red"}},
        ),
        ({}, {"added_tokens.json": {"<ent>": SIZE, "boat": WORDS.index("boat")}}),
        (
            {"added_tokens_decoder": SPECIAL},
            {"added_tokens.json": {"<ent>": SIZE}},
        ),
        ({}, {"special_tokens_map.json": {"additional_special_tokens": ["<ent>", "red"]}}),
    ],
)
def test_files_that_contradict_each_other(write: Write, settings: Files, files: Files) -> None:
    check(*write(settings, files))


def test_tokenizer_json_is_believed_before_vocab_txt(
    write: Write, tokenizer_json: Callable[..., Files]
) -> None:
    files = tokenizer_json()
    vocabulary = files["tokenizer.json"]["model"]["vocab"]
    vocabulary["boat"], vocabulary["red"] = vocabulary["red"], vocabulary["boat"]
    artifact, facts, folder = write({}, files)
    check(artifact, facts, folder)
    assert Tokenizer((artifact / "tokenizer.json").read_text(), facts).encode("boat").ids == [
        WORDS.index("[CLS]"),
        WORDS.index("red"),
        WORDS.index("[SEP]"),
    ]


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"do_lower_case": True}, {"lowercase": False}),
        ({"do_lower_case": False}, {"lowercase": True}),
        ({"strip_accents": False}, {"strip_accents": True}),
        ({"tokenize_chinese_chars": True}, {"handle_chinese_chars": False}),
    ],
)
def test_settings_are_believed_before_the_normalizer(
    write: Write, tokenizer_json: Callable[..., Files], settings: Files, changes: Files
) -> None:
    files = tokenizer_json()
    files["tokenizer.json"]["normalizer"] |= changes
    check(*write(settings, files))


@pytest.mark.parametrize("special", [True, False])
def test_a_normalized_token_and_normalizers_that_contradict_each_other(
    write: Write, tokenizer_json: Callable[..., Files], special: bool
) -> None:
    """Which texts have the token depends on the version of transformers."""
    added = {**SPECIAL, "21": token("The", special=special, normalized=True)}
    settings = {"do_lower_case": False, "added_tokens_decoder": added}
    with pytest.raises(ExportError, match=r"the added token 'The' is normalized.*do_lower_case"):
        write(settings, tokenizer_json())


@pytest.mark.parametrize(
    ("name", "lowercase"),
    [("the", True), ("The", False)],
    ids=["an equal form", "no contradiction"],
)
def test_a_normalized_token_that_is_the_same_for_both(
    write: Write, tokenizer_json: Callable[..., Files], name: str, lowercase: bool
) -> None:
    files = tokenizer_json()
    files["tokenizer.json"]["normalizer"]["lowercase"] = lowercase
    added = {**SPECIAL, str(WORDS.index(name)): normalized(name)}
    check(*write({"do_lower_case": False, "added_tokens_decoder": added}, files))


def test_tokenizer_json_may_truncate_on_the_left(
    write: Write, tokenizer_json: Callable[..., Files]
) -> None:
    files = tokenizer_json(
        truncation={
            "direction": "Left",
            "max_length": 6,
            "strategy": "LongestFirst",
            "stride": 0,
        }
    )
    artifact, facts, folder = write({}, files)
    check(artifact, facts, folder)
    assert facts.truncation_side == "left"


def test_padding_on_the_left_is_told_and_overruled(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="bertrt")
    artifact, facts, _ = write({"padding_side": "left"})
    assert "padding_side is 'left'" in caplog.text
    assert facts.padding_side == "right"
    assert transformers.AutoTokenizer.from_pretrained(artifact).padding_side == "right"


def test_a_model_with_one_token_type_takes_pairs(write: Write) -> None:
    artifact, facts, _ = write({}, type_vocab_size=1)
    tokenizer = Tokenizer((artifact / "tokenizer.json").read_text(), facts)
    assert not any(tokenizer.encode("the boat", "is red").type_ids)
    assert tokenizer.token_type_ids([5], [6, 7]) == [0] * 6
    theirs = transformers.AutoTokenizer.from_pretrained(artifact)("the boat", "is red")
    assert "token_type_ids" not in theirs


@pytest.mark.parametrize("config", [{"type_vocab_size": 1}, {}])
def test_later_windows_of_a_model_with_one_token_type(write: Write, config: dict[str, Any]) -> None:
    """The runtime's have one type; the file alone cannot say so for windows after the first."""
    names = [] if config else ["input_ids", "attention_mask"]
    artifact, facts, _ = write({"model_input_names": names} if names else {}, **config)
    text, pair = "the boat", "is red . " * 4
    ours = Tokenizer((artifact / "tokenizer.json").read_text(), facts)
    options: dict[str, Any] = {"max_length": 8, "stride": 1}
    first = ours.encode(text, pair, truncation="only_second", **options)
    windows = [first, *first.overflowing]
    assert len(windows) > 2
    padded = pad(windows, ours.pad_id, one_token_type=ours.one_token_type)
    assert not padded["token_type_ids"].any()

    plain = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json"))
    plain.enable_truncation(strategy="only_second", **options)
    read = plain.encode(text, pair)
    assert [window.ids for window in read.overflowing] == [window.ids for window in windows[1:]]
    assert not any(read.type_ids)
    # If the library gives them one type, the limit in docs/guides/differences.md is gone.
    assert all(any(window.type_ids) for window in read.overflowing)

    theirs = transformers.AutoTokenizer.from_pretrained(artifact)
    batch = theirs(text, pair, truncation="only_second", return_overflowing_tokens=True, **options)
    assert "token_type_ids" not in batch


@pytest.mark.parametrize(
    "processor",
    [
        {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        {
            "type": "RobertaProcessing",
            "sep": ["[SEP]", 3],
            "cls": ["[CLS]", 2],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        {
            "type": "Sequence",
            "processors": [
                {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
                {
                    "type": "ByteLevel",
                    "trim_offsets": True,
                    "add_prefix_space": False,
                    "use_regex": True,
                },
            ],
        },
    ],
)
def test_older_post_processors_with_one_token_type(
    write: Write, tokenizer_json: Callable[..., Files], processor: Files
) -> None:
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    check(*write(settings, tokenizer_json(post_processor=processor)))


def test_token_types_that_cannot_be_changed_are_refused() -> None:
    inner = {"type": "NewProcessing", "types": [0, 1]}
    for processor in (inner, {"type": "Sequence", "processors": [inner]}):
        with pytest.raises(ExportError, match=r"has no token_type_ids.*a NewProcessing"):
            use_one_token_type({"post_processor": processor})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_basic_tokenize": False}, "do_basic_tokenize is false"),
        ({"never_split": ["boat", "The"]}, "never_split names 'The'"),
        ({"never_split": ["[ent]"]}, r"never_split names '\[ent\]'"),
    ],
)
@pytest.mark.parametrize("with_json", [False, True])
def test_settings_of_slow_tokenizers_are_refused(
    write: Write,
    tokenizer_json: Callable[..., Files],
    settings: Files,
    message: str,
    with_json: bool,
) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        write(settings, tokenizer_json() if with_json else {})
    assert "tokenizer_config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, {"vocab.txt": "".join(f"{word}\n" for word in WORDS) + "\n"}),
        ({}, {"vocab.txt": "".join(f"{word}\n" for word in WORDS) + "\n\n\n"}),
        ({}, {"vocab.txt": "".join(f"{word}\n" for word in WORDS) + "[unused1]\nSTOP\n"}),
        (
            {
                "split_special_tokens": True,
                "added_tokens_decoder": {**SPECIAL, str(SIZE): token("<ent>", special=True)},
            },
            {},
        ),
    ],
)
def test_a_surplus_that_no_text_reaches_is_left_out(
    write: Write, caplog: pytest.LogCaptureFixture, settings: Files, files: Files
) -> None:
    caplog.set_level(logging.WARNING, logger="bertrt")
    artifact, facts, folder = write(settings, files, vocab_size=SIZE)
    assert "that no text reaches" in caplog.text
    tokenizer = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json"))
    assert max(tokenizer.get_vocab().values()) == SIZE - 1
    check(artifact, facts, folder)


@pytest.mark.parametrize(
    ("settings", "files", "first"),
    [
        ({}, {"vocab.txt": "".join(f"{word}\n" for word in WORDS) + "ship\n"}, "ship"),
        ({}, {"vocab.txt": "".join(f"{word}\n" for word in WORDS) + "\n##ing\n"}, "##ing"),
        ({"added_tokens_decoder": {str(SIZE): token("<ent>")}}, {}, "<ent>"),
        ({"additional_special_tokens": ["<ent>"]}, {}, "<ent>"),
    ],
)
def test_a_surplus_that_texts_reach_is_refused(
    write: Write, settings: Files, files: Files, first: str
) -> None:
    with pytest.raises(ExportError, match=f"'{first}'.* model's vocab_size is {SIZE}"):
        write(settings, files, vocab_size=SIZE)


def test_far_fewer_tokens_than_embeddings_are_told(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="bertrt")
    write({}, vocab_size=30522)
    assert f"the tokenizer has {SIZE} tokens and the model's vocab_size is 30522" in caplog.text


def test_embeddings_padded_to_a_round_number_are_not_told(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="bertrt")
    write({}, vocab_size=128)
    assert not caplog.text
