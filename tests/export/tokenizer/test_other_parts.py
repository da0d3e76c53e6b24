"""A tokenizer.json with parts that its class would not build is used as it is.

transformers 5 takes the vocabulary from the file and builds the other parts by the class;
transformers 4 uses the file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer as Library
from tokenizers import normalizers, pre_tokenizers

from bertrt.tokenizer import Tokenizer

MAJOR = int(transformers.__version__.partition(".")[0])

CLASSES = {
    "another splitter": "RobertaTokenizer",
    "no splitting by words": "RobertaTokenizer",
    "lower case": "RobertaTokenizer",
    "a WordPiece": "RobertaTokenizer",
    "ends of words": "RobertaTokenizer",
    "a Unigram in lower case": "XLMRobertaTokenizer",
    "bytes": "XLMRobertaTokenizer",
    "another unknown token": "XLMRobertaTokenizer",
    "signs apart": "CamembertTokenizer",
}


def with_other_parts(tiny: ModuleType, case: str) -> Library:
    """Return a tokenizer of a class with a part of another."""
    if case == "a WordPiece":
        return tiny.build("MPNetTokenizer")
    tokenizer: Library = tiny.build(CLASSES[case])
    if case == "another splitter":
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(False)])
    elif case == "no splitting by words":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False, use_regex=False)
    elif case in ("lower case", "a Unigram in lower case"):
        tokenizer.normalizer = normalizers.Lowercase()
    elif case == "signs apart":
        signs = pre_tokenizers.Punctuation()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([signs, pre_tokenizers.Metaspace()])
    else:
        state = json.loads(tokenizer.to_str())
        change_model(state, case)
        tokenizer = Library.from_str(json.dumps(state))
    return tokenizer


def change_model(state: dict[str, Any], case: str) -> None:
    model = state["model"]
    if case == "ends of words":
        model["end_of_word_suffix"] = "t"
    elif case == "bytes":
        model["byte_fallback"] = True
        model["vocab"] += [[f"<0x{byte:02X}>", -9.0] for byte in range(256)]
    else:
        # <unk> and <pad> change their places.
        vocabulary = model["vocab"]
        vocabulary[1], vocabulary[3] = vocabulary[3], vocabulary[1]
        model["unk_id"] = 1
        for token in state["added_tokens"]:
            token["id"] = {1: 3, 3: 1}.get(token["id"], token["id"])


@pytest.mark.parametrize("case", CLASSES)
def test_a_tokenizer_json_with_other_parts_is_used_as_it_is(
    tiny_tokenizers: ModuleType,
    export_folder: Callable[..., Tokenizer],
    tmp_path: Path,
    texts: list[str],
    case: str,
) -> None:
    tokenizer = with_other_parts(tiny_tokenizers, case)
    folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    settings = {"model_max_length": None}
    unknown = {"unk_token": "[UNK]"} if case == "a WordPiece" else {}
    tiny_tokenizers.write(folder, CLASSES[case], tokenizer, **settings, **unknown)
    ours = export_folder(folder, artifact, positions=200)
    every = [*texts, *tiny_tokenizers.TEXTS]
    plain = tiny_tokenizers.build(CLASSES[case])
    assert any(tokenizer.encode(text).ids != plain.encode(text).ids for text in every)
    sources = (folder, artifact) if MAJOR < 5 else (artifact,)
    theirs = [transformers.AutoTokenizer.from_pretrained(source) for source in sources]
    for text in every:
        for pair in (None, "The cat, 12"):
            expected = tokenizer.encode(text, pair)
            found = ours.encode(text, pair)
            assert (found.ids, found.offsets) == (expected.ids, expected.offsets), text
            assert all(found.ids == other(text, pair)["input_ids"] for other in theirs), text
    names = {role: ours.id_to_token(id or 0) for role, id in ours.facts.special_ids.items()}
    unk = unknown.get("unk_token", "<unk>")
    assert names == {"pad": "<pad>", "unk": unk, "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
