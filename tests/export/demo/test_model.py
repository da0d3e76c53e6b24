"""The embedded model: its answers, the numbers in its card, and its held-out sentences."""

import re
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from bertrt.export.demo.corpus import held_out, sentences
from bertrt.export.demo.evaluate import evaluate, totals
from bertrt.export.demo.train import SEED
from bertrt.export.demo.vocabulary import build_tokenizer, make_vocabulary

FOLDER = Path(str(resources.files("bertrt.export.demo")))
SENTENCE = "Plants create [MASK] through a process known as photosynthesis."
SENSIBLE = {"oxygen", "sugar", "food", "energy", "glucose"}
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
LIMIT = 3_000_000  # bytes


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return sentences(SEED)


@pytest.fixture(scope="module")
def fill_mask() -> Any:
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.pipeline("fill-mask", model=str(FOLDER))


def numbers(pattern: str) -> list[int]:
    """Return the numbers in the only match of a pattern in the model card."""
    (found,) = re.findall(pattern, (FOLDER / "README.md").read_text(encoding="utf-8"))
    return [
        int(number.replace(",", "")) for number in ([found] if isinstance(found, str) else found)
    ]


def test_the_weights_fit_the_class_exactly() -> None:
    from transformers import AutoModelForMaskedLM, BertForMaskedLM

    model, report = AutoModelForMaskedLM.from_pretrained(FOLDER, output_loading_info=True)
    assert isinstance(model, BertForMaskedLM)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert numbers(r"([\d,]+) parameters") == [model.num_parameters()]


def test_the_photosynthesis_sentence_has_sensible_answers(fill_mask: Any) -> None:
    answers = [answer["token_str"] for answer in fill_mask(SENTENCE)]
    assert answers[0] in SENSIBLE
    assert len(SENSIBLE & set(answers)) >= 3


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_case_changes_nothing(fill_mask: Any, change: Any) -> None:
    changed = change(SENTENCE).replace(change("[MASK]"), "[MASK]")
    assert fill_mask(changed) == fill_mask(SENTENCE)


def test_sensible_answers_inside_a_long_text(fill_mask: Any, texts: list[str]) -> None:
    for before in (1, 5, 20, 40):
        answers = [
            answer["token_str"]
            for answer in fill_mask(" ".join([*texts[:: len(texts) // before][:before], SENTENCE]))
        ]
        assert SENSIBLE & set(answers), (before, answers)


def test_answers_to_held_out_sentences_match_the_card() -> None:
    for line in totals(evaluate()):
        source, counts = line.split(": ")
        count, first, among = map(int, re.findall(r"\d+", counts))
        card = numbers(rf"`{re.escape(source)}` \| (\d+) \| (\d+) \| (\d+) \|")
        assert card[0] == count
        # Another processor's rounding may change a near tie.
        assert abs(card[1] - first) <= 1
        assert abs(card[2] - among) <= 1


def test_no_held_out_sentence_is_in_the_training_text(texts: list[str]) -> None:
    assert SENTENCE in [cloze.sentence for cloze in held_out()]
    letters = re.compile(r"[^a-z' ]+")
    text = "\n".join(" ".join(letters.sub(" ", sentence.lower()).split()) for sentence in texts)
    for cloze in held_out():
        for answer in cloze.answers:
            filled = letters.sub(" ", cloze.sentence.replace("[MASK]", answer).lower())
            assert " ".join(filled.split()) not in text


def test_the_vocabulary_is_that_of_the_training_text(texts: list[str]) -> None:
    vocabulary = make_vocabulary(texts)
    assert (FOLDER / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == vocabulary
    tokenizer = build_tokenizer(vocabulary)
    assert tokenizer.to_str() == tokenizer.from_file(str(FOLDER / "tokenizer.json")).to_str()
    assert numbers(r"([\d,]+) distinct sentences") == [len(texts)]
    assert numbers(r"([\d,]+) tokens: uncased") == [len(vocabulary)]


def test_the_tokenizer_spells_unknown_words_and_pairs_texts() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    encoding = tokenizer("Zyxgub, PLANTS", "water")
    tokens = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    assert "[UNK]" not in tokens
    assert tokens[-5:] == [",", "plants", "[SEP]", "water", "[SEP]"]
    assert encoding["token_type_ids"] == [0] * (len(tokens) - 2) + [1, 1]
    assert tokenizer.model_max_length == 512


def test_the_folder_is_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in MODEL_FILES) < LIMIT
