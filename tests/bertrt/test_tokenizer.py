"""The tokenizer, compared with transformers' tokenizers, and its errors."""

import json
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.artifact.directory import Artifact
from bertrt.errors import ArtifactError, InputError
from bertrt.tokenizer import Tokenizer
from bertrt.tokens import pad


@pytest.fixture(scope="module", params=[False, True], ids=["uncased", "cased"])
def cased(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def reference(cased: bool, make_checkpoint: Callable[..., Path]) -> Any:
    """Return transformers' tokenizer of a checkpoint."""
    import transformers

    folder = make_checkpoint("BertForMaskedLM", cased=cased)
    return transformers.AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def both(cased: bool, make_artifact: Callable[..., Path], reference: Any) -> tuple[Tokenizer, Any]:
    """Return bertrt's and transformers' tokenizer of the same checkpoint."""
    path = make_artifact("BertForMaskedLM", cased=cased)
    facts = Artifact.open(path).manifest.tokenizer
    return Tokenizer((path / "tokenizer.json").read_text(encoding="utf-8"), facts), reference


def test_texts(both: tuple[Tokenizer, Any], texts: list[str]) -> None:
    ours, theirs = both
    for text in texts:
        encoding = ours.encode(text, truncation=True)
        expected = theirs(text, truncation=True, return_special_tokens_mask=True)
        assert encoding.ids == expected["input_ids"], text
        assert encoding.type_ids == expected["token_type_ids"], text
        assert encoding.special_tokens_mask == expected["special_tokens_mask"], text
        assert ours.decode(encoding.ids) == theirs.decode(encoding.ids), text
        assert ours.decode(encoding.ids, skip_special_tokens=True) == theirs.decode(
            encoding.ids, skip_special_tokens=True
        )


def test_pairs(both: tuple[Tokenizer, Any], texts: list[str]) -> None:
    ours, theirs = both
    for text, pair in zip(texts, reversed(texts), strict=True):
        encoding = ours.encode(text, pair, truncation=True)
        expected = theirs(text, pair, truncation=True)
        assert encoding.ids == expected["input_ids"], (text, pair)
        assert encoding.type_ids == expected["token_type_ids"], (text, pair)


@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("max_length", [12, 20, 33])
def test_truncation(both: tuple[Tokenizer, Any], strategy: str, max_length: int) -> None:
    ours, theirs = both
    first, second = "the cat sat on the mat " * 4, "a dog is not a cat " * 5
    pairs = {
        "longest_first": [(first, second), ("the cat", second), (first, "the dog")],
        "only_first": [(first, "the dog")],
        "only_second": [("the cat", second)],
    }
    for text, pair in pairs[strategy]:
        encoding = ours.encode(text, pair, truncation=strategy, max_length=max_length)
        expected = theirs(text, pair, truncation=strategy, max_length=max_length)
        assert encoding.ids == expected["input_ids"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_side(both: tuple[Tokenizer, Any], side: str) -> None:
    ours, theirs = both
    own, theirs.truncation_side = theirs.truncation_side, side
    first, second = "the cat sat on the mat " * 4, "a dog is not a cat " * 5
    for pair in (None, second):
        for max_length in (12, 21):
            options = {"truncation": True, "max_length": max_length}
            expected = theirs(first, pair, **options)["input_ids"]
            assert ours.encode(first, pair, truncation_side=side, **options).ids == expected
    theirs.truncation_side = own
    ids = list(range(5, 25))
    cut = ours.take_ids(ids, 100, truncation=True, max_length=7, truncation_side=side)
    assert cut.ids == (ids[-7:] if side == "left" else ids[:7])
    for wrong in ("up", "Left", 3):
        with pytest.raises(InputError, match="truncation_side is"):
            ours.encode(first, truncation_side=wrong)  # type: ignore[arg-type]


def test_windows(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    text = "the cat sat on the mat and the dog sat on the cat " * 5
    encoding = ours.encode(text, truncation=True, max_length=20, stride=7)
    expected = theirs(
        text, truncation=True, max_length=20, stride=7, return_overflowing_tokens=True
    )
    assert [window.ids for window in (encoding, *encoding.overflowing)] == expected["input_ids"]


def test_words(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    words = ["John", "lives", "in", "New", "York", "photosynthesis"]
    encoding = ours.encode(words)
    expected = theirs(words, is_split_into_words=True)
    assert encoding.ids == expected["input_ids"]
    assert encoding.word_ids == expected.word_ids()


def test_special_tokens(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    first, second = [10, 11, 12], [13, 14]
    assert ours.build_inputs_with_special_tokens(first) == [2, *first, 3]
    assert ours.build_inputs_with_special_tokens(first, second) == [2, *first, 3, *second, 3]
    assert ours.token_type_ids(first) == [0] * 5
    assert ours.token_type_ids(first, second) == [0] * 5 + [1] * 3
    ids = [2, 10, 1, 4, 11, 3, 0]
    assert ours.special_tokens_mask(ids) == theirs.get_special_tokens_mask(
        ids, already_has_special_tokens=True
    )


def test_vocabulary(both: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours, theirs = both
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.token_to_id("[MASK]") == theirs.mask_token_id
    assert ours.token_to_id("nonesuch") is None
    assert ours.id_to_token(2) == "[CLS]"
    assert ours.id_to_token(10**6) is None
    assert ours.id_to_token(-1) is None
    path = ours.save_vocabulary(tmp_path)
    saved = path.read_text(encoding="utf-8").splitlines()
    assert saved == [token for token, _ in sorted(theirs.get_vocab().items(), key=lambda kv: kv[1])]


def test_a_saved_vocabulary_has_ids_as_line_numbers(
    both: tuple[Tokenizer, Any], tmp_path: Path
) -> None:
    """Ids without a token are empty lines, so that the tokens after them keep their lines."""
    data = json.loads(both[0].__reduce__()[1][0])
    data["model"]["vocab"]["straggler"] = len(data["model"]["vocab"]) + 3
    facts = replace(both[0].facts, golden=())
    path = Tokenizer(json.dumps(data), facts).save_vocabulary(tmp_path)
    saved = path.read_text(encoding="utf-8").splitlines()
    assert saved.index("straggler") == data["model"]["vocab"]["straggler"]
    assert saved[-4:] == ["", "", "", "straggler"]


def test_a_cased_vocabulary_keeps_case(make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForMaskedLM", cased=True)
    tokenizer = Tokenizer(
        (path / "tokenizer.json").read_text(encoding="utf-8"),
        Artifact.open(path).manifest.tokenizer,
    )
    assert "Paris" in tokenizer.encode("Paris").tokens


def test_padding_is_on_the_right(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    pairs = [("the cat", None), ("the cat sat on the mat", "a dog")]
    arrays = pad([ours.encode(*pair) for pair in pairs], ours.pad_id)
    assert arrays["attention_mask"][0].tolist() == [1] * 4 + [0] * (
        arrays["input_ids"].shape[1] - 4
    )
    expected = theirs([text for text, _ in pairs], [pair or "" for _, pair in pairs], padding=True)
    assert arrays["input_ids"][1].tolist() == expected["input_ids"][1]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.encode("a \ud800 b"), "lone surrogate .* at position 2"),
        (lambda t: t.encode("the " * 100), "text 'the the .* has 102 tokens and the limit is 64"),
        (lambda t: t.encode("a", "b " * 70), "text 'a' with its pair has 74 tokens"),
        (lambda t: t.encode("the cat", max_length=2), "4 tokens and the limit is 2"),
        (lambda t: t.encode(3), "a text is int"),
        (lambda t: t.encode(None), "a text is NoneType"),
        (lambda t: t.encode(b"bytes"), "a text is bytes"),
        (lambda t: t.encode(["a", 3]), "a word is int"),
        (lambda t: t.encode("a", ["b"]), "both be strings or both"),
        (lambda t: t.encode("a", truncation="some"), "truncation is 'some'"),
        (lambda t: t.encode("a", truncation=True, max_length=2), "leaves no room"),
        (lambda t: t.encode("a", truncation=True, max_length=10, stride=8), "leaves no room"),
        (lambda t: t.encode("a", max_length=0), "max_length is 0"),
        (lambda t: t.encode("a", max_length=65), "reads at most 64"),
        (lambda t: t.encode("a", max_length="5"), "max_length is '5'"),
        (
            lambda t: t.encode("the " * 90, "a b", truncation="only_second"),
            "cannot be truncated to 64 tokens",
        ),
        (
            lambda t: t.encode("the " * 40, "a " * 90, truncation="only_second", stride=50),
            "cannot be truncated to 64 tokens",
        ),
    ],
)
def test_refuses(
    both: tuple[Tokenizer, Any], call: Callable[[Tokenizer], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(both[0])


def test_threads_do_not_share_truncation(both: tuple[Tokenizer, Any]) -> None:
    """One thread's max_length must not truncate another thread's text."""
    tokenizer, _ = both
    text = "the cat sat on the mat " * 3
    failures = []

    def work(max_length: int | None) -> None:
        for _ in range(200):
            truncation = (
                {} if max_length is None else {"truncation": True, "max_length": max_length}
            )
            if len(tokenizer.encode(text, **truncation).ids) != (max_length or 20):
                failures.append(max_length)

    threads = [threading.Thread(target=work, args=(n,)) for n in (None, 5, 9, 13) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_pickle(both: tuple[Tokenizer, Any]) -> None:
    copy = pickle.loads(pickle.dumps(both[0]))
    assert copy.encode("the cat").ids == both[0].encode("the cat").ids


def test_an_unusable_tokenizer_file_is_refused(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be used"):
        Tokenizer('{"model": "none"}', ours.facts)


def test_spaces_are_cleaned_up_as_in_transformers(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    clean = Tokenizer(
        ours.__reduce__()[1][0],
        replace(ours.facts, clean_up_tokenization_spaces=True),
    )
    for text in ("the cat , a dog . who ? no !", "don ' t", "we ' re", "he ' s", "they ' ve"):
        ids = ours.encode(text, special_tokens=False).ids
        assert clean.decode(ids) == theirs.clean_up_tokenization(ours.decode(ids))
