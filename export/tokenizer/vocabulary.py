"""Read the tokens of a vocabulary's files, and guess from its words whether the model is cased."""

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bertrt.errors import ExportError
from bertrt.export.checkpoints.error_reason import error_reason
from bertrt.export.checkpoints.json_file import read_json

__all__ = ["looks_cased", "read_pieces", "read_tokens", "read_vocabulary", "tokens_of_json"]

# A vocabulary with at least this share of tokens with a capital is cased. In cased ones it is a
# third; uncased ones have none, except for rare signs that lower-casing does not change.
_CASED_SHARE = 0.01


def tokens_of_json(data: Mapping[str, Any]) -> set[str]:
    """Return all tokens of a tokenizer.json; raises ExportError if it cannot be used."""
    try:
        # A Unigram model lists each token with its score.
        vocabulary = data["model"]["vocab"]
        tokens = vocabulary if isinstance(vocabulary, dict) else [token for token, _ in vocabulary]
        return {*tokens, *(token["content"] for token in data.get("added_tokens") or ())}
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"tokenizer.json cannot be used ({error!r}): download it again"
        ) from error


def read_tokens(path: Path) -> set[str]:
    """Return all tokens of a vocabulary: a vocab.txt, a vocab.json, or a SentencePiece model.

    Raises ExportError for a damaged file, and for a SentencePiece model without the packages that
    transformers converts it with.
    """
    if path.suffix == ".model":
        return set(read_pieces(path))
    return set(read_json(path) if path.suffix == ".json" else read_vocabulary(path))


def read_vocabulary(path: Path) -> dict[str, int]:
    """Return each token of a vocab.txt and its line number from 0; of equal lines the last counts.

    Raises ExportError if the file is empty or not UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            vocabulary = {line.rstrip("\n"): number for number, line in enumerate(file)}
    except UnicodeDecodeError as error:
        raise ExportError(f"{path.name} is not UTF-8 text ({error}): download it again") from error
    if not vocabulary:
        raise ExportError(f"{path.name} is empty: download it again")
    return vocabulary


def read_pieces(path: Path) -> list[str]:
    """Return the pieces of a SentencePiece model, in the order of their ids.

    Raises ExportError if it is none, and without the packages that transformers converts it with.
    """
    try:
        import_module("google.protobuf")
        # Code that protobuf generated refuses to be imported by an older protobuf.
        import_module("sentencepiece.sentencepiece_model_pb2")
        from sentencepiece import SentencePieceProcessor
    except Exception as error:
        raise ExportError(
            f"{path.name} is a SentencePiece model, and transformers converts it with a package "
            f"that is missing or does not fit another ({error_reason(error)}): pip install "
            "'sentencepiece<0.2.3' protobuf"
        ) from error
    try:
        processor = SentencePieceProcessor(model_file=str(path))
    except Exception as error:
        # SentencePiece raises errors of several classes for files that it cannot use.
        raise ExportError(
            f"{path.name} is no SentencePiece model ({error_reason(error)}): download it again"
        ) from error
    return [processor.id_to_piece(id) for id in range(processor.get_piece_size())]


def looks_cased(vocabulary: Collection[str]) -> bool:
    """Whether a vocabulary has words with capitals, apart from special tokens such as `[UNK]`."""
    words = [token for token in vocabulary if not (token.startswith("[") and token.endswith("]"))]
    capitals = sum(token != token.lower() for token in words)
    return capitals > _CASED_SHARE * len(words)
