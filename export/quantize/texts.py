"""Texts for int8 export: those that set the activation scales, and those that judge the result.

Both built-in sets are 380 texts of what people feed to a BERT: words, searches, chat, reviews, law,
medicine, code, logs, tables and ten-odd languages, from one word to over three hundred, in shuffled
order, so that the first texts are as mixed as all of them. Sixty are of a few common words, "No."
or "What was that?", whose ranges are unlike those of longer texts. The sets share their mixture and
no text: a bound proved on the held-out set says something about texts that no scale has ever seen.
"""

from importlib import resources
from pathlib import Path

from bertrt.errors import ExportError

__all__ = ["FEWEST", "calibration_texts", "heldout_texts", "read_texts"]

# With fewer, a scale is the accident of one sentence.
FEWEST = 8


def calibration_texts() -> list[str]:
    """The 380 built-in texts from which static activation scales are measured."""
    return _built_in("calibration.txt")


def heldout_texts() -> list[str]:
    """The 380 built-in texts on which an int8 graph is judged; none is a calibration text."""
    return _built_in("heldout.txt")


def read_texts(path: Path) -> list[str]:
    """Read a user's calibration file: UTF-8, one text a line.

    Blank lines are skipped, white space around a text is removed, and repeats are kept.

    Raises:
        ExportError: the file cannot be read, is not UTF-8, or holds fewer than `FEWEST` texts.
    """
    try:
        # The Windows editors' byte order mark would otherwise become part of the first text.
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExportError(
            f"The calibration file {path} is not UTF-8 (at byte {error.start}): save it as UTF-8."
        ) from error
    except OSError as error:
        raise ExportError(
            f"The calibration file {path} cannot be read ({error.strerror}): "
            "name a text file with one text a line."
        ) from error
    texts = _lines(content)
    if not texts:
        raise ExportError(f"The calibration file {path} is empty: write one text a line.")
    if len(texts) < FEWEST:
        raise ExportError(
            f"The calibration file {path} holds {len(texts)} texts, at least {FEWEST} are needed: "
            "add some like those that the model will see, one a line."
        )
    return texts


def _built_in(name: str) -> list[str]:
    return _lines(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _lines(content: str) -> list[str]:
    # Not splitlines(), which also breaks at form feeds and at Unicode's own line separators.
    return [line for raw in content.split("\n") if (line := raw.strip())]
