"""Every class's tokenizer gives transformers' ids, types, offsets and texts, from its files."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers
from tokenizers import normalizers, processors

from bertrt.errors import ExportError, InputError
from bertrt.tokenizer import Tokenizer
from bertrt.tokens import pad

MAJOR = int(transformers.__version__.partition(".")[0])

CLASSES = [
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MPNetTokenizer",
    "RobertaTokenizer",
    "XLMRobertaTokenizer",
    "CamembertTokenizer",
    "AlbertTokenizer",
]
WORDS = ["John", "lives", "in", "New-York", "café", "🙂🙂", "<mask>", "photosynthesis"]

Export = Callable[..., Tokenizer]


def check_same(ours: Tokenizer, source: Path, texts: list[str]) -> Any:
    """Check encodings and decoded texts against transformers' tokenizer of a folder; return it."""
    theirs = transformers.AutoTokenizer.from_pretrained(source)
    # By default, transformers 4 cleans up spaces; 5 and bertrt do not.
    clean_up = {"clean_up_tokenization_spaces": ours.facts.clean_up_tokenization_spaces}
    asked = {"return_special_tokens_mask": True, "return_offsets_mapping": True}
    pairs = itertools.pairwise([*texts, texts[0]])
    for text, pair in [*((text, None) for text in texts), *pairs]:
        for cut in ({}, {"max_length": 7}, {"max_length": 11, "truncation": "only_first"}):
            for side in ("left", "right"):
                options: dict[str, Any] = {"truncation": True, **cut}
                theirs.truncation_side = side
                if options["truncation"] != "only_first" or len(theirs(pair or "").input_ids) < 6:
                    found = ours.encode(text, pair, truncation_side=side, **options)
                    expected = theirs(text, pair or None, **asked, **options)
                    assert found.ids == expected["input_ids"], (source.name, text, pair)
                    assert found.offsets == expected["offset_mapping"], (source.name, text, pair)
                    mask = found.special_tokens_mask
                    assert mask == expected["special_tokens_mask"], (source.name, text, pair)
                    assert found.word_ids == expected.word_ids()
                    types = expected.get("token_type_ids", found.type_ids)
                    # Of a DistilBERT without settings, transformers 5 opens BERT's tokenizer.
                    assert found.type_ids == types or not any(found.type_ids)
        ids = ours.encode(text, pair, truncation=True).ids
        for skip in (True, False):
            decoded = theirs.decode(ids, skip_special_tokens=skip, **clean_up)
            assert ours.decode(ids, skip_special_tokens=skip) == decoded
        tokens = theirs.convert_ids_to_tokens(ids)
        assert [ours.id_to_token(id) for id in ids] == tokens
        assert ours.convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens)
    for role, id in ours.facts.special_ids.items():
        assert id == getattr(theirs, f"{role}_token_id"), role
    return theirs


def from_folder(
    ours: Tokenizer, folder: Path, artifact: Path, tiny: ModuleType, texts: list[str]
) -> Any:
    """Check against transformers' tokenizer of the checkpoint and of the artifact."""
    check_same(ours, artifact, [*texts, *tiny.TEXTS])
    return check_same(ours, folder, [*texts, *tiny.TEXTS])


@pytest.fixture(scope="module")
def both(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path_factory: Any
) -> Iterator[Callable[[str], tuple[Tokenizer, Any]]]:
    """A factory: the runtime's tokenizer of a class, and transformers' own."""
    made: dict[str, tuple[Tokenizer, Any]] = {}

    def make(name: str) -> tuple[Tokenizer, Any]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            tiny_tokenizers.write(folder / "checkpoint", name)
            ours = export_folder(folder / "checkpoint", folder / "artifact")
            theirs = transformers.AutoTokenizer.from_pretrained(folder / "checkpoint")
            made[name] = ours, theirs
        return made[name]

    return make


@pytest.mark.parametrize("name", CLASSES)
def test_tokenizer_json(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path, texts: list[str], name: str
) -> None:
    folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    tiny_tokenizers.write(folder, name)
    ours = export_folder(folder, artifact)
    theirs = from_folder(ours, folder, artifact, tiny_tokenizers, texts)
    if name != "ElectraTokenizer":  # which transformers 5 calls BertTokenizer
        assert type(theirs).__name__.removesuffix("Fast") == name
    assert ours.facts.special_ids["mask"] == theirs.mask_token_id
    mask = theirs.mask_token
    if name not in ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"):
        # The mask takes the space before it, and only that before it.
        spaced = ours.encode(f"cat {mask} sat", special_tokens=False)
        joined = ours.encode(f"cat{mask} sat", special_tokens=False)
        assert spaced.ids == joined.ids
        assert ours.encode(f"cat{mask}sat", special_tokens=False).ids != joined.ids or (
            ours.encode(" a").ids == ours.encode("a").ids
        )


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_implies_the_class(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path, texts: list[str], name: str
) -> None:
    """Old folders name neither the class nor the special tokens."""
    folder = tmp_path / "checkpoint"
    tiny_tokenizers.write(folder, name, tokenizer_class=None, do_lower_case=True)
    ours = export_folder(folder, tmp_path / "artifact")
    from_folder(ours, folder, tmp_path / "artifact", tiny_tokenizers, texts[:12])


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    "settings",
    [
        {"split_special_tokens": True},
        {"truncation_side": "left", "trim_offsets": False},
        {"additional_special_tokens": ["<ent>"]},
        {"mask_token": None},
        {"sep_token": "<unk>", "bos_token": "<s>"},
        {"do_lower_case": False},
    ],
    ids=str,
)
def test_settings_of_a_class(
    tiny_tokenizers: ModuleType,
    export_folder: Export,
    tmp_path: Path,
    name: str,
    settings: dict[str, Any],
) -> None:
    folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    tiny_tokenizers.write(folder, name)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    ours = export_folder(folder, artifact)
    from_folder(ours, folder, artifact, tiny_tokenizers, ["PARIS <ent>cat", "the dog"])
    assert ours.mask_is_text == bool(settings.get("split_special_tokens"))


def test_split_special_tokens_that_a_unigram_lacks(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path
) -> None:
    settings = {"split_special_tokens": True, "additional_special_tokens": ["<ent>"]}
    tiny_tokenizers.write(tmp_path / "checkpoint", "XLMRobertaTokenizer", **settings)
    with pytest.raises(ExportError, match=r"split_special_tokens is true, .* Unigram model cannot"):
        export_folder(tmp_path / "checkpoint", tmp_path / "artifact")


@pytest.mark.parametrize("add_prefix_space", [True, False])
def test_the_space_before_the_first_word(
    tiny_tokenizers: ModuleType,
    export_folder: Export,
    tmp_path: Path,
    texts: list[str],
    add_prefix_space: bool,
) -> None:
    """tokenizer_config.json is believed before tokenizer.json."""
    folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    tokenizer = tiny_tokenizers.build("RobertaTokenizer", add_prefix_space=not add_prefix_space)
    tiny_tokenizers.write(folder, "RobertaTokenizer", tokenizer, add_prefix_space=add_prefix_space)
    ours = export_folder(folder, artifact)
    from_folder(ours, folder, artifact, tiny_tokenizers, texts)
    same = ours.encode("cat").ids == ours.encode(" cat").ids
    assert same == add_prefix_space


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "RobertaTokenizer"])
def test_words(both: Callable[[str], tuple[Tokenizer, Any]], name: str) -> None:
    check_words(*both(name))


def check_words(ours: Tokenizer, theirs: Any) -> None:
    for words in (WORDS, WORDS[:1], ["", " ", "a"]):
        found = ours.encode(words)
        expected = theirs(words, is_split_into_words=True, return_offsets_mapping=True)
        assert found.ids == expected["input_ids"]
        assert found.word_ids == expected.word_ids()
        assert found.offsets == expected["offset_mapping"]


def test_words_of_a_tokenizer_that_needs_spaces(
    tiny_tokenizers: ModuleType,
    export_folder: Export,
    tmp_path: Path,
    both: Callable[[str], tuple[Tokenizer, Any]],
) -> None:
    """Without the space before them, words are other tokens; transformers 4 refuses them too."""
    ours, theirs = both("RobertaTokenizer")
    with pytest.raises(InputError, match=r'list of words lacks: .* "add_prefix_space" to true'):
        ours.encode(WORDS)
    if MAJOR < 5:
        with pytest.raises(AssertionError, match="add_prefix_space=True"):
            theirs(WORDS, is_split_into_words=True)
    folder = tmp_path / "checkpoint"
    tiny_tokenizers.write(folder, "RobertaTokenizer", add_prefix_space=True)
    with_space = export_folder(folder, tmp_path / "artifact")
    check_words(with_space, transformers.AutoTokenizer.from_pretrained(folder))
    words = ["John", "lives", "in", "Paris"]
    assert with_space.encode(words).ids == with_space.encode(" ".join(words)).ids


@pytest.mark.parametrize("name", CLASSES)
def test_windows(both: Callable[[str], tuple[Tokenizer, Any]], name: str) -> None:
    ours, theirs = both(name)
    text, pair = "the cat", "café 🙂 and the dog sat on the cat in New York. " * 4
    options: dict[str, Any] = {"truncation": "only_second", "max_length": 23, "stride": 5}
    first = ours.encode(text, pair, **options)
    theirs.truncation_side = "right"
    expected = theirs(
        text, pair, return_overflowing_tokens=True, return_offsets_mapping=True, **options
    )
    windows = [first, *first.overflowing]
    assert len(windows) > 3
    assert [window.ids for window in windows] == expected["input_ids"]
    assert [window.offsets for window in windows] == expected["offset_mapping"]
    for i, window in enumerate(windows):
        assert window.sequence_ids == expected.sequence_ids(i)


@pytest.mark.parametrize("name", CLASSES)
def test_inputs_with_special_tokens(
    both: Callable[[str], tuple[Tokenizer, Any]], name: str
) -> None:
    ours, _ = both(name)
    first, second = ours.encode("the cat", special_tokens=False), ours.encode("a", "dog")
    dog = [id for id, text in zip(second.ids, second.sequence_ids, strict=True) if text == 1]
    assert ours.build_inputs_with_special_tokens(first.ids) == ours.encode("the cat").ids
    pair = ours.encode("the cat", "dog")
    assert ours.build_inputs_with_special_tokens(first.ids, dog) == pair.ids
    assert ours.token_type_ids(first.ids, dog) == pair.type_ids
    assert ours.token_type_ids(first.ids) == ours.encode("the cat").type_ids
    empty = ours.encode("", "", empty_pair=True)
    assert ours.build_inputs_with_special_tokens([], []) == empty.ids
    for count, encoding in ((False, ours.encode("")), (True, empty)):
        assert ours.num_special_tokens_to_add(pair=count) == len(encoding)
    double = name in ("MPNetTokenizer", *CLASSES[4:7])
    assert len(empty) == (4 if double else 3)


def test_albert_has_two_token_types(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path
) -> None:
    """Its template's, which transformers 4 returns, and the model was trained with."""
    tiny_tokenizers.write(tmp_path / "checkpoint", "AlbertTokenizer")
    ours = export_folder(tmp_path / "checkpoint", tmp_path / "artifact")
    types = pad([ours.encode("the cat", "a dog")], ours.pad_id)["token_type_ids"][0].tolist()
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    assert types == theirs("the cat", "a dog", return_token_type_ids=True)["token_type_ids"]
    assert set(types) == {0, 1}
    # If this fails, transformers 5 has mended it: take it out of the list of differences.
    assert ("token_type_ids" in theirs("a", "b")) == (MAJOR < 5)
    artifact = transformers.AutoTokenizer.from_pretrained(tmp_path / "artifact")
    assert artifact("the cat", "a dog")["token_type_ids"] == types
    # A file that says otherwise is believed.
    settings = {"model_input_names": ["input_ids", "attention_mask"]}
    tiny_tokenizers.write(tmp_path / "one", "AlbertTokenizer", **settings)
    ours = export_folder(tmp_path / "one", tmp_path / "one-artifact")
    assert ours.one_token_type


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("accents", [True, False])
def test_the_case_of_a_unigram_is_that_of_its_file(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path, lower: bool, accents: bool
) -> None:
    tokenizer = tiny_tokenizers.build("AlbertTokenizer")
    parts = [normalizers.NFKD(), normalizers.StripAccents()] if not accents else []
    tokenizer.normalizer = normalizers.Sequence(
        [*parts, *([normalizers.Lowercase()] if lower else [])]
    )
    texts = ["Paris café", "PARIS CAFÉ"]
    expected = [tokenizer.encode(text).ids for text in texts]
    tiny_tokenizers.write(tmp_path / "checkpoint", "AlbertTokenizer", tokenizer)
    ours = export_folder(tmp_path / "checkpoint", tmp_path / "artifact")
    assert [ours.encode(text).ids for text in texts] == expected
    assert (expected[0] == expected[1]) == lower
    # The settings are believed before it, as by transformers 5.
    settings = {"do_lower_case": not lower, "keep_accents": accents}
    tiny_tokenizers.write(tmp_path / "said", "AlbertTokenizer", tokenizer, **settings)
    said = export_folder(tmp_path / "said", tmp_path / "said-artifact")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "said")
    assert [said.encode(text).ids for text in texts] == [theirs(text).input_ids for text in texts]


def test_a_generic_class_with_names_of_its_own(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path, texts: list[str]
) -> None:
    """A tokenizer of the tokenizers library: a sequence of post-processors, and bos and eos."""
    library = tiny_tokenizers.build("RobertaTokenizer", add_prefix_space=True)
    library.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True, add_prefix_space=True),
            processors.TemplateProcessing(
                single="<s> $A </s>",
                pair="<s> $A </s> $B:1 </s>:1",
                special_tokens=[("<s>", 0), ("</s>", 2)],
            ),
        ]
    )
    names = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    settings: dict[str, Any] = {f"{role}_token": name for role, name in names.items()}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    tiny_tokenizers.write(folder, "RobertaTokenizer", library, **settings)
    ours = export_folder(folder, artifact, token_types=1)
    assert ours.facts.special_ids == {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 420}
    assert ours.one_token_type
    assert ours.build_inputs_with_special_tokens([7, 8], [9]) == [0, 7, 8, 2, 9, 2]
    check_same(ours, artifact, [*texts, *tiny_tokenizers.TEXTS])


def test_spaces_are_not_cleaned_up_where_tokens_have_them(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path
) -> None:
    """transformers 4 saved the setting with every tokenizer; 5 ignores it for a BPE."""
    text = "it 's done ."
    for name, cleaned in (("RobertaTokenizer", False), ("XLMRobertaTokenizer", True)):
        folder = tmp_path / name
        tiny_tokenizers.write(folder, name, clean_up_tokenization_spaces=True)
        ours = export_folder(folder, tmp_path / f"{name}-artifact")
        assert (ours.decode(ours.encode(text, special_tokens=False).ids) == "it's done.") == cleaned
        if MAJOR >= 5:
            check_same(ours, folder, [text])


def test_a_surplus_of_merged_pieces_is_refused(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path
) -> None:
    tiny_tokenizers.write(tmp_path / "checkpoint", "RobertaTokenizer")
    with pytest.raises(ExportError, match=r"the tokenizer has 421 tokens .* vocab_size is 400"):
        export_folder(tmp_path / "checkpoint", tmp_path / "artifact", vocab_size=400)


def test_the_limit_is_the_models(
    tiny_tokenizers: ModuleType, export_folder: Export, tmp_path: Path
) -> None:
    for limit, expected in ((None, 62), (1e30, 62), (512, 62), (40, 40)):
        folder = tmp_path / str(limit)
        tiny_tokenizers.write(folder, "RobertaTokenizer", model_max_length=limit)
        ours = export_folder(folder, tmp_path / f"{limit}-artifact", positions=62)
        assert ours.max_length == expected
