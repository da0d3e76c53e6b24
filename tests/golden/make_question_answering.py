"""Write question_answering.json: the answers of transformers 4.57's pipeline, which 5.x lacks.

question_answering_byte_level.json has those of the same kind of model with RoBERTa's tokenizer. Run
it with transformers 4.57 installed: `python tests/golden/make_question_answering.py`. The
checkpoints' random weights are the same in every NumPy, so a test can make them again and compare.
"""

import itertools
import json
import string
from pathlib import Path
from typing import Any

import numpy as np

# Files of answers by the model's tokenizer.
GOLDEN = {
    "WordPiece": Path(__file__).with_name("question_answering.json"),
    "byte-level": Path(__file__).with_name("question_answering_byte_level.json"),
}

WORDS = """
a in of the to and is was who where what when which lives works river city paris london berlin
plants create energy through process photo ##synthesis ##ing ##s ##ed mary john 19 ##98 born
""".split()
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *string.punctuation,
    *(prefix + letter for letter in string.ascii_lowercase + "0123456789" for prefix in ("", "##")),
    *WORDS,
    *"中国京🙂",
]

CONTEXTS = {
    "short": "Mary lives in London, by the river.",
    "case": "London is a city. Who lives in LONDON? john works in london!",
    "accents": "Café naïve — résumé: JOHN’s was born in 1998 (Berlin).",
    "signs": "中国 is where the 🙂 lives... [CLS] and e\u0301\u200b too_",
    "long": "Plants create energy through a process of photosynthesis. " * 3
    + "Mary works in Paris and lives by the river. John was born in Berlin, unlike her. " * 4
    + "中国人 in 北京, zzz qqq.",
}
QUESTIONS = ("who lives in london?", "Where is JOHN")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"top_k": 3},
    {"top_k": 2, "handle_impossible_answer": True},
    {"top_k": 4, "align_to_words": False},
    {"top_k": 3, "max_answer_len": 2},
    {"top_k": 2, "max_seq_len": 27, "doc_stride": 9},
    {"max_seq_len": 20, "doc_stride": 0, "handle_impossible_answer": True, "align_to_words": False},
]


# Merges of a byte-level BPE, whose vocabulary is them, every byte and the special tokens.
MERGES = [
    *("Ġ t", "h e", "Ġt he", "i n", "Ġ in", "o n", "L on", "d on", "Lon don", "Ġ London", "l i"),
    *("Ġ li", "v e", "Ġli ve", "Ġlive s", "r i", "ri ve", "Ã ©", "ð Ł", "ðŁ Ļ", "Ġ b", "Ġb y"),
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def byte_level_vocabulary() -> dict[str, int]:
    """Return the tokens of the byte-level BPE, and their ids."""
    from tokenizers.pre_tokenizers import ByteLevel

    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*SPECIAL, *sorted(ByteLevel.alphabet()), *merged]
    return {token: id for id, token in enumerate(tokens)}


def write_checkpoint(folder: Path, tokenizer: str) -> None:
    """Write a tiny BertForQuestionAnswering, its config and its tokenizer's vocabulary."""
    import torch
    import transformers

    bytes_too = tokenizer == "byte-level"
    config = transformers.BertConfig(
        vocab_size=len(byte_level_vocabulary() if bytes_too else VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        max_position_embeddings=64,
    )
    model = transformers.BertForQuestionAnswering(config)
    # RandomState never changes its numbers; newer generators may. With this seed the empty answer
    # is sometimes among the best.
    random = np.random.RandomState(47)
    state = {}
    for name, value in sorted(model.state_dict().items()):
        center = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        # Larger weights in the last layer: a test on nearly equal logits would prove little.
        scale = 0.6 if name.startswith("qa_outputs") else 0.15
        numbers = center + scale * random.standard_normal(tuple(value.shape))
        state[name] = torch.tensor(numbers, dtype=torch.float32)
    model.load_state_dict(state)
    model.save_pretrained(folder)
    settings: dict[str, Any] = {"model_max_length": 64}
    if bytes_too:
        mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "special": True}
        flags = dict.fromkeys(("rstrip", "normalized", "single_word"), False)
        settings |= {"tokenizer_class": "RobertaTokenizer", "mask_token": {**mask, **flags}}
        vocabulary = json.dumps(byte_level_vocabulary(), ensure_ascii=False)
        (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
        merges = "\n".join(["#version: 0.2", *MERGES]) + "\n"
        (folder / "merges.txt").write_text(merges, encoding="utf-8")
    else:
        settings |= {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
        (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def answer(tokenizer: str) -> dict[str, Any]:
    """Answer every question on every context with every set of options."""
    import tempfile

    import transformers

    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), tokenizer)
        pipe = transformers.pipeline("question-answering", model=folder, device="cpu")
    cases = []
    for context, question, options in itertools.product(CONTEXTS, QUESTIONS, OPTIONS):
        answer = pipe(question=question, context=CONTEXTS[context], **options)
        answers = answer if isinstance(answer, list) else [answer]
        # The order of impossible spans depends on the processor's sort.
        if all(entry["score"] > 1e-6 for entry in answers):
            cases.append(
                {"context": context, "question": question, "options": options, "answer": answer}
            )
    return {"transformers": transformers.__version__, "contexts": CONTEXTS, "cases": cases}


def main() -> None:
    """Write every file of answers."""
    import transformers

    if not transformers.__version__.startswith("4.57."):
        raise SystemExit(f"transformers is {transformers.__version__}: install 4.57")
    for tokenizer, path in GOLDEN.items():
        text = json.dumps(answer(tokenizer), ensure_ascii=False, indent=1) + "\n"
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
