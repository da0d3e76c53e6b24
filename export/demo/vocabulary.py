"""The demo model's vocabulary and tokenizer: whole words of its text, and pieces for the rest."""

from collections import Counter
from collections.abc import Iterable
from string import ascii_lowercase, digits, punctuation

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

__all__ = ["SPECIAL", "build_tokenizer", "make_vocabulary", "words_of"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# A word is whole in the vocabulary when the text has it this often.
_LEAST_COUNT = 2
# A beginning or an ending is a piece when this many distinct words share it.
_LEAST_WORDS = 6
_PIECE_LENGTHS = (2, 3, 4)

_NORMALIZER = normalizers.BertNormalizer(lowercase=True)
_PRE_TOKENIZER = pre_tokenizers.BertPreTokenizer()


def words_of(text: str) -> list[str]:
    """A text's words and signs in lower case, as BERT's tokenizer divides them."""
    normal = _NORMALIZER.normalize_str(text)
    return [word for word, _ in _PRE_TOKENIZER.pre_tokenize_str(normal)]


def make_vocabulary(texts: Iterable[str]) -> list[str]:
    """Tokens by id: special ones, signs, letters, common endings and beginnings, whole words.

    Letters are there as words and as pieces, so that any English word can be spelled. The order
    depends on the texts alone, and so does every id.
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
    """BERT's uncased tokenizer over a vocabulary, with its template for one text and for pairs."""
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
