"""The classes of tokenizers that transformers builds: their files, special tokens and parts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "CLASSES",
    "GENERIC",
    "ROLES",
    "VOCABULARY_FILES",
    "TokenizerClass",
    "class_of_model",
    "parts_of",
]

# What a special token is for.
ROLES = ("pad", "unk", "cls", "sep", "mask")

_BERT = {role: f"[{role.upper()}]" for role in ROLES}
_FAIRSEQ = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}

_SENTENCEPIECE = frozenset({"Precompiled", "Strip", "Replace"})

# Options of a BPE or a Unigram that no class sets.
_NEVER_SET = ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")


@dataclass(frozen=True)
class TokenizerClass:
    """What transformers knows of a tokenizer by its class.

    Attributes:
        name: the class, without the "Fast" of older versions.
        model: the type of its model in a tokenizer.json; "" for any.
        files: those of its vocabulary, which it needs where there is no tokenizer.json.
        special_tokens: the special tokens where no file names them, by role.
        model_types: the models whose config implies the class.
        has_token_types: whether the second text of a pair has token type 1 (otherwise 0, as the
            first) unless the settings say so.
        normalizers: the types of normalizers that it builds, or that change nothing beside them.
        adds_special_tokens: whether its SentencePiece model lacks the special tokens.
        mask_takes_space: whether its models were trained with masks that take the space before.
        unk_id: the id that it takes for the unknown token's; None for that of the token.
    """

    name: str
    model: str
    files: tuple[str, ...]
    special_tokens: Mapping[str, str]
    model_types: tuple[str, ...] = ()
    has_token_types: bool = False
    normalizers: frozenset[str] = frozenset()
    adds_special_tokens: bool = False
    mask_takes_space: bool = True
    unk_id: int | None = None

    def builds(self, state: Mapping[str, Any]) -> bool:
        """Whether the class builds the tokenizer of a tokenizer.json, or one that replaces it.

        transformers 5 takes the vocabulary from the file, and builds the other parts itself. The
        settings of a WordPiece are believed before the file.
        """
        if _model_type(state) != self.model:
            return False
        if self.model == "WordPiece":
            return True
        splitters = list(parts_of(state.get("pre_tokenizer")))
        kinds = {splitter["type"] for splitter in splitters}
        if self.model == "BPE":
            splits = kinds == {"ByteLevel"} and splitters[0].get("use_regex", True)
        else:
            splits = {"Metaspace"} <= kinds <= {"Metaspace", "WhitespaceSplit"}
        normalizers = {part["type"] for part in parts_of(state.get("normalizer"))}
        model = state["model"]
        return (
            splits
            and normalizers <= self.normalizers
            and not any(model.get(option) for option in _NEVER_SET)
            and self.unk_id in (None, model.get("unk_id"))
        )


def _model_type(state: Mapping[str, Any]) -> str:
    model = state["model"]
    # Older files do not name it.
    guess = "BPE" if "merges" in model else "WordPiece"
    if isinstance(model["vocab"], list):
        guess = "Unigram"
    return str(model.get("type", guess))


def parts_of(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the normalizers, or other parts, of one in a tokenizer.json that may be a sequence."""
    if part is None:
        return
    if part["type"] != "Sequence":
        yield part
        return
    for name in ("normalizers", "pretokenizers", "processors", "decoders"):
        for inner in part.get(name, ()):
            yield from parts_of(inner)


_ALL = (
    TokenizerClass(
        "BertTokenizer",
        "WordPiece",
        ("vocab.txt",),
        _BERT,
        ("bert",),
        has_token_types=True,
        mask_takes_space=False,
    ),
    TokenizerClass(
        "DistilBertTokenizer",
        "WordPiece",
        ("vocab.txt",),
        _BERT,
        ("distilbert",),
        mask_takes_space=False,
    ),
    TokenizerClass(
        "ElectraTokenizer",
        "WordPiece",
        ("vocab.txt",),
        _BERT,
        ("electra",),
        has_token_types=True,
        mask_takes_space=False,
    ),
    TokenizerClass(
        "MPNetTokenizer", "WordPiece", ("vocab.txt",), {**_FAIRSEQ, "unk": "[UNK]"}, ("mpnet",)
    ),
    TokenizerClass("RobertaTokenizer", "BPE", ("vocab.json", "merges.txt"), _FAIRSEQ, ("roberta",)),
    TokenizerClass(
        "XLMRobertaTokenizer",
        "Unigram",
        ("sentencepiece.bpe.model",),
        _FAIRSEQ,
        ("xlm-roberta",),
        normalizers=_SENTENCEPIECE,
        adds_special_tokens=True,
        unk_id=3,
    ),
    TokenizerClass(
        "CamembertTokenizer",
        "Unigram",
        ("sentencepiece.bpe.model",),
        _FAIRSEQ,
        ("camembert",),
        normalizers=_SENTENCEPIECE,
        adds_special_tokens=True,
    ),
    # transformers 5 gives no token types by this class, which 4 did and the model was trained with.
    TokenizerClass(
        "AlbertTokenizer",
        "Unigram",
        ("spiece.model",),
        {**_BERT, "pad": "<pad>", "unk": "<unk>"},
        ("albert",),
        has_token_types=True,
        normalizers=_SENTENCEPIECE | {"NFKD", "StripAccents", "Lowercase"},
        unk_id=1,
    ),
)
CLASSES: Mapping[str, TokenizerClass] = {kind.name: kind for kind in _ALL}

# Any other class: its tokenizer.json is used as it is.
GENERIC = TokenizerClass("PreTrainedTokenizer", "", ("vocab.txt",), _BERT, has_token_types=True)

VOCABULARY_FILES = tuple(dict.fromkeys(name for kind in _ALL for name in kind.files))


def class_of_model(model_type: str | None) -> str:
    """Return the tokenizer class of a model whose files name none: BERT's if it is unknown."""
    return next((kind.name for kind in _ALL if model_type in kind.model_types), "BertTokenizer")
