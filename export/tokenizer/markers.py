"""Make markers that begin a prompt, such as `[unused0]`, tokens of their own within a text."""

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken

from bertrt.errors import ExportError

__all__ = ["register_markers"]


def register_markers(tokenizer: Any, prompts: Sequence[str], *, needed: bool) -> None:
    """Register the markers of prompts as special tokens of a transformers tokenizer, in place.

    ColBERT inserts its markers as ids. As text before another text they would be split, unless they
    are special. As in sentence-transformers, a marker is a whole prompt or its first word, if that
    is in the vocabulary, and any other prompt is plain text.

    Args:
        tokenizer: the tokenizer.
        prompts: prompts that may begin with a marker.
        needed: whether each begins with one.

    Raises ExportError for a marker that is needed and that the vocabulary lacks.
    """
    vocabulary = tokenizer.get_vocab()
    for prompt in prompts:
        names = [name for name in (prompt, *prompt.split(None, 1)[:1]) if name in vocabulary]
        if not names:
            if needed:
                raise ExportError(
                    f"the vocabulary has no {prompt.strip()!r}, which marks queries or documents: "
                    "the tokenizer is from another checkpoint"
                )
        elif tokenizer.tokenize(names[0]) != names[:1]:
            token = AddedToken(names[0], normalized=False, special=True)
            tokenizer.backend_tokenizer.add_special_tokens([token])
