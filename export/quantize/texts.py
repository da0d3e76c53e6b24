"""Texts for int8 export: calibration texts set the activation scales, held-out texts judge them.

Both built-in sets are 380 texts of the kinds that people give to a BERT: words, searches, chat,
reviews, law, medicine, code, logs, tables and more than ten languages, from one word to over three
hundred, in shuffled order, so that the first texts are as mixed as all of them. Sixty consist of a
few common words, "No." or "What was that?", whose ranges differ from those of longer texts. The
sets have the same mixture and no text in common: a bound that holds on the held-out set says
something about texts that no scale was measured on.
"""

from importlib import resources
from pathlib import Path

from bertrt.errors import ExportError

__all__ = [
    "FEWEST",
    "calibration_texts",
    "heldout_texts",
    "read_lines",
    "read_texts",
    "split_lines",
]

# With fewer, a scale depends on single sentences.
FEWEST = 8


def calibration_texts() -> list[str]:
    """Return the 380 built-in texts from which static activation scales are measured."""
    return _built_in("calibration.txt")


def heldout_texts() -> list[str]:
    """Return the 380 built-in texts on which int8 graphs are judged; none is for calibration."""
    return _built_in("heldout.txt")


def read_texts(path: Path) -> list[str]:
    """Read a user's calibration file: UTF-8, one text a line.

    Blank lines are skipped, white space around a text is removed, and repeated texts are kept.

    Raises ExportError if the file cannot be read, is not UTF-8, or has fewer than `FEWEST` texts.
    """
    texts = [line for _, line in read_lines(path)]
    if len(texts) < FEWEST:
        raise ExportError(
            f"the calibration file {path} has {len(texts)} texts, and at least {FEWEST} are "
            "needed: add texts similar to those that the model will see, one a line"
        )
    return texts


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a user's calibration file; see `split_lines`.

    Raises ExportError if the file cannot be read, is not UTF-8, or is empty.
    """
    try:
        # Without "-sig" the byte order mark of Windows editors would be part of the first text.
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExportError(
            f"the calibration file {path} is not UTF-8 (at byte {error.start}): save it as UTF-8"
        ) from error
    except OSError as error:
        raise ExportError(
            f"the calibration file {path} cannot be read ({error.strerror}): "
            "give a text file with one text a line"
        ) from error
    lines = split_lines(content)
    if not lines:
        raise ExportError(f"the calibration file {path} is empty: write one text a line")
    return lines


def split_lines(content: str) -> list[tuple[int, str]]:
    """Return the lines that are not blank, without white space around them, by their numbers."""
    # Not splitlines(), which also splits at form feeds and at Unicode's line separators.
    lines = enumerate(content.split("\n"), start=1)
    return [(number, line) for number, raw in lines if (line := raw.strip())]


def _built_in(name: str) -> list[str]:
    content = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [line for _, line in split_lines(content)]
