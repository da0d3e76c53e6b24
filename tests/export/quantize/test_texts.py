"""The built-in texts of int8 export, which are mixed and distinct, and a user's file of texts."""

import statistics
import unicodedata
from itertools import combinations
from pathlib import Path

import pytest

from bertrt.errors import ExportError
from bertrt.export.quantize.texts import FEWEST, calibration_texts, heldout_texts, read_texts

SETS = {"calibration": calibration_texts(), "heldout": heldout_texts()}
# A text is in one of these scripts if it has a letter of it.
SCRIPTS = ["LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI", "CJK", "HIRAGANA", "HANGUL"]

both_sets = pytest.mark.parametrize("texts", SETS.values(), ids=SETS)


def shingles(text: str) -> set[str]:
    """Return a text's runs of five letters, ignoring case, signs and digits."""
    letters = "".join(c for c in text.casefold() if c.isalpha())
    return {letters[i : i + 5] for i in range(max(1, len(letters) - 4))}


@both_sets
def test_there_are_380_single_lines(texts: list[str]) -> None:
    assert len(texts) == 380
    assert all(text == text.strip() and text for text in texts)
    assert not any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for text in texts for c in text)


@both_sets
def test_lengths_range_from_one_word_to_over_three_hundred(texts: list[str]) -> None:
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) == 1
    assert 300 < max(lengths) < 400
    assert 12 <= statistics.median(lengths) <= 18
    assert 20 <= sum(length > 80 for length in lengths) <= 35
    assert sum(length > 250 for length in lengths) == 8
    assert sum(length < 5 for length in lengths) >= 60


@both_sets
def test_every_quarter_is_mixed(texts: list[str]) -> None:
    for start in range(0, len(texts), 95):
        lengths = [len(text.split()) for text in texts[start : start + 95]]
        assert 10 <= statistics.median(lengths) <= 20
        assert max(lengths) > 100


@both_sets
def test_every_kind_of_text_is_included(texts: list[str]) -> None:
    for script in SCRIPTS:
        assert any(unicodedata.name(c, "").startswith(script) for text in texts for c in text)
    for sign in ["😂", "#", "@", "http", '{"', "ERROR", "()", "|", "\\", "°", "²", "ß", "ñ", "¿"]:
        assert any(sign in text for text in texts), sign
    assert sum(text.isupper() and len(text.split()) > 3 for text in texts) >= 3
    assert any(text.islower() and len(text.split()) > 10 for text in texts)


def test_no_two_texts_are_similar() -> None:
    texts = [text for group in SETS.values() for text in group]
    grams = [shingles(text) for text in texts]
    assert len({text.casefold() for text in texts}) == len(texts)
    for (a, first), (b, second) in combinations(zip(texts, grams, strict=True), 2):
        shared = len(first & second)
        assert shared <= 3 or shared < 0.3 * len(first | second), (a, b)


def test_a_file_has_one_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    lines = ["First", "", "  zweite Zeile ", "\u3000", "con\u2028tinued", "form\ffeed", *"abcd"]
    path.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    read = ["First", "zweite Zeile", "con\u2028tinued", "form\ffeed", *"abcd"]
    assert read_texts(path) == read
    path.write_text("\n".join(["same"] * FEWEST))
    assert read_texts(path) == ["same"] * FEWEST


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: write one text a line"),
        (b"\n \r\n\t\n", "is empty: write one text a line"),
        (b"one\ntwo\n" + b"\n" * FEWEST, f"has 2 texts, and at least {FEWEST} are needed"),
        (b"text\n" * (FEWEST - 1), f"has {FEWEST - 1} texts, and at least {FEWEST} are needed"),
        (b"caf\xe9\n" * FEWEST, r"is not UTF-8 \(at byte 3\)"),
        ("text\n".encode("utf-16") * FEWEST, r"is not UTF-8 \(at byte 0\)"),
    ],
)
def test_an_unusable_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=message) as caught:
        read_texts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"none\.txt cannot be read \(No such file"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(ExportError, match=r"cannot be read \(Is a directory\)"):
        read_texts(tmp_path)
