"""Make the demo model's vocabulary and tokenizer: words of its text, and pieces for others."""

from collections import Counter
from collections.abc import Iterable
from string import ascii_lowercase, digits, punctuation

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

__all__ = ["SPECIAL", "build_tokenizer", "make_vocabulary", "words_of"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# A word is in the vocabulary if the text has it at least this often.
_LEAST_COUNT = 2
# A prefix or suffix is a piece if at least this many distinct words have it.
_LEAST_WORDS = 6
_PIECE_LENGTHS = (2, 3, 4)

_NORMALIZER = normalizers.BertNormalizer(lowercase=True)
_PRE_TOKENIZER = pre_tokenizers.BertPreTokenizer()


def words_of(text: str) -> list[str]:
    """Split a text into words and punctuation in lower case, as BERT's tokenizer does."""
    normal = _NORMALIZER.normalize_str(text)
    return [word for word, _ in _PRE_TOKENIZER.pre_tokenize_str(normal)]


def make_vocabulary(texts: Iterable[str]) -> list[str]:
    """Return the tokens by id: special tokens, signs, letters, common suffixes, prefixes and words.

    Letters are included as words and as pieces, so that any English word can be spelled. The order,
    and so every id, depends on the texts only.
    """
    counts = Counter(word for text in texts for word in words_of(text))
    words = sorted(word for word in counts if word.isalpha() and word.isascii())
    lengths = [(word, length) for word in words for length in _PIECE_LENGTHS if length < len(word)]
    endings = Counter(word[-length:] for word, length in lengths)
    beginnings = Counter(word[:length] for word, length in lengths)
    common = sorted(words, key=lambda word: (-counts[word], word))
    tokens = [
        *SPECIAL,
        *punctuation,
        *digits,
        *ascii_lowercase,
        *(f"##{sign}" for sign in digits + ascii_lowercase),
        *(f"##{piece}" for piece, count in sorted(endings.items()) if count >= _LEAST_WORDS),
        *(piece for piece, count in sorted(beginnings.items()) if count >= _LEAST_WORDS),
        *(word for word in common if counts[word] >= _LEAST_COUNT),
    ]
    return list(dict.fromkeys(tokens))


def build_tokenizer(vocabulary: list[str]) -> Tokenizer:
    """Build BERT's uncased tokenizer over a vocabulary, with its template for texts and pairs."""
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = _NORMALIZER
    tokenizer.pre_tokenizer = _PRE_TOKENIZER
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer
