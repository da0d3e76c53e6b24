"""Write question_answering.json: the answers of transformers 4.57's pipeline, which 5.x lacks.

Run it with transformers 4.57 installed: `python tests/golden/make_question_answering.py`. The
checkpoint's random weights are the same in every NumPy, so a test can make it again and compare.
"""

import itertools
import json
import string
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name("question_answering.json")

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


def write_checkpoint(folder: Path) -> None:
    """Write a tiny BertForQuestionAnswering, its config and its tokenizer's vocabulary."""
    import torch
    import transformers

    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
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
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def main() -> None:
    """Answer every question on every context with every set of options."""
    import tempfile

    import transformers

    if not transformers.__version__.startswith("4.57."):
        raise SystemExit(f"transformers is {transformers.__version__}: install 4.57")
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder))
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
    golden = {"transformers": transformers.__version__, "contexts": CONTEXTS, "cases": cases}
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
