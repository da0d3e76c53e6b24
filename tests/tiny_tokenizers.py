"""Tiny tokenizers of every class that transformers builds, trained on a few sentences, as files.

The parts of a tokenizer.json are those that transformers 4.57 converts each class's vocabulary to.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

__all__ = ["MODEL_TYPES", "TEXTS", "build", "write", "write_sentencepiece", "write_vocabulary"]

# The model whose config.json names no class, by the class.
MODEL_TYPES = {
    "BertTokenizer": "bert",
    "DistilBertTokenizer": "distilbert",
    "ElectraTokenizer": "electra",
    "MPNetTokenizer": "mpnet",
    "RobertaTokenizer": "roberta",
    "XLMRobertaTokenizer": "xlm-roberta",
    "CamembertTokenizer": "camembert",
    "AlbertTokenizer": "albert",
}

CORPUS = [
    "Plants create oxygen through a process known as photosynthesis.",
    "John Smith works at Google in New York City, and Mary lives in London by the river.",
    "Paris is the capital of France. Berlin is the capital of Germany!",
    "The cat sat on the mat; the dog sat on the cat, didn't it?",
    "café naïve résumé — the café of the naïve, déjà vu",
    "中国人 in 北京, 日本語 and 한국어 🙂 👩‍👩‍👧‍👦",
    "In 1998 and 2024 it was 3.14 or 100 per cent.",
] * 3

# Texts that these tokenizers are known to split in their own ways, besides those of conftest.py.
TEXTS = [
    "a <mask> b",
    " <mask>",
    "a<mask>b",
    "a  <mask>  <mask> b",
    "a [MASK] b [CLS] c [SEP] d",
    "<s> a </s> b <pad> c <unk> d",
    " leading and trailing  ",
    "   three   spaces   each   ",
    "\u00a0no-break\u3000wide\u2028line\x85next",
    "the Ġcat ▁sat ##s on▁mat",
    "e\u0301 E\u0301 \u1e9b\u0323 ﬁ ½",
    "👩‍👩‍👧‍👦🇫🇷✊🏿 end",
    "<0x41> \x00\x01\x7f",
    "it 's don 't `` quoted ''",
    "PARIS Paris paris İ ẞ",
]


def build(class_name: str, *, add_prefix_space: bool = False) -> Tokenizer:
    """Return a tokenizer with the parts of a class."""
    if class_name == "RobertaTokenizer":
        return _byte_level(add_prefix_space)
    if class_name in ("XLMRobertaTokenizer", "CamembertTokenizer", "AlbertTokenizer"):
        return _unigram(class_name)
    return _wordpiece(fairseq=class_name == "MPNetTokenizer")


def write(
    folder: Path, class_name: str, tokenizer: Tokenizer | None = None, **settings: Any
) -> Tokenizer:
    """Write a class's tokenizer.json, settings and the config of a model; return the tokenizer.

    Args:
        folder: where to write; it may exist, and a config.json in it stays.
        class_name: the class; `tokenizer_class` in the settings names it unless given there.
        tokenizer: the tokenizer; None for that of `build`.
        settings: those of tokenizer_config.json; one that is None is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer or build(class_name)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": class_name, "model_max_length": 64, **settings}
    settings = {name: value for name, value in settings.items() if value is not None}
    _write_json(folder / "tokenizer_config.json", settings)
    if not (folder / "config.json").exists():
        _write_json(folder / "config.json", {"model_type": MODEL_TYPES[class_name]})
    return tokenizer


def write_vocabulary(folder: Path, **settings: Any) -> Tokenizer:
    """Write a RobertaTokenizer's vocab.json and merges.txt; return the tokenizer."""
    tokenizer = write(folder, "RobertaTokenizer", **settings)
    (folder / "tokenizer.json").unlink()
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    _write_json(folder / "vocab.json", vocabulary)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    text = "\n".join(["#version: 0.2", *merges]) + "\n"
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    return tokenizer


def write_sentencepiece(folder: Path, class_name: str, name: str, **settings: Any) -> None:
    """Train a SentencePiece model of a class under a file's name; write settings and a config."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    symbols = {"control_symbols": ["[CLS]", "[SEP]"], "user_defined_symbols": ["[MASK]"]}
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2}
    if class_name == "AlbertTokenizer":
        ids = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "<pad>"}
    with (folder / name).open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=file,
            vocab_size=160,
            hard_vocab_limit=False,
            character_coverage=1.0,
            minloglevel=2,
            **ids,
            **(symbols if class_name == "AlbertTokenizer" else {}),
        )
    settings = {"tokenizer_class": class_name, "model_max_length": 64, **settings}
    _write_json(folder / "tokenizer_config.json", settings)
    _write_json(folder / "config.json", {"model_type": MODEL_TYPES[class_name]})


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def _special(names: list[str], mask: str) -> Iterator[AddedToken]:
    """Yield special tokens with their flags: a mask takes the space before it."""
    yield from (AddedToken(name, special=True, normalized=False) for name in names)
    yield AddedToken(mask, special=True, normalized=False, lstrip=True)


def _byte_level(add_prefix_space: bool) -> Tokenizer:
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=420, special_tokens=names, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(list(_special(names, "<mask>")))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=add_prefix_space, trim_offsets=True
    )
    return tokenizer


def _unigram(class_name: str) -> Tokenizer:
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trained = Tokenizer(Unigram())
    trained.pre_tokenizer = splitter
    trainer = UnigramTrainer(vocab_size=150, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    vocabulary = json.loads(trained.to_str())["model"]["vocab"]
    pieces = [(piece, score) for piece, score in vocabulary if piece != "<unk>"]
    before = {
        "XLMRobertaTokenizer": ["<s>", "<pad>", "</s>", "<unk>"],
        "CamembertTokenizer": [
            *("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>")
        ],
        "AlbertTokenizer": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
    }[class_name]
    is_albert = class_name == "AlbertTokenizer"
    after = [] if is_albert else [("<mask>", 0.0)]
    scored = [(name, -100.0 if name == "<unk>NOTUSED" else 0.0) for name in before]
    tokenizer = Tokenizer(Unigram([*scored, *pieces, *after], unk_id=before.index("<unk>")))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Metaspace()
    if is_albert:
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.Replace("``", '"'),
                normalizers.Replace("''", '"'),
                normalizers.NFKD(),
                normalizers.StripAccents(),
                normalizers.Lowercase(),
            ]
        )
    names = [name for name in before if name not in ("[MASK]",)]
    tokenizer.add_special_tokens(list(_special(names, "[MASK]" if is_albert else "<mask>")))
    cls, sep = ("[CLS]", "[SEP]") if is_albert else ("<s>", "</s>")
    join = f"{sep}:0" if is_albert else f"{sep} {sep}"
    second = ":1" if is_albert else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {join} $B{second} {sep}{second}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return tokenizer


def _wordpiece(*, fairseq: bool) -> Tokenizer:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if fairseq:
        names = ["<s>", "<pad>", "</s>", "[UNK]", "<unk>", "<mask>"]
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    trainer = WordPieceTrainer(vocab_size=250, special_tokens=names, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if not fairseq:
        tokenizer.add_special_tokens(names)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        return tokenizer
    tokenizer.add_special_tokens(list(_special(names[:-1], "<mask>")))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False, trim_offsets=True
    )
    return tokenizer
