"""Write a model repository with every head, and the answers that its models have to give.

Run in the development environment: `python make_repository.py DIRECTORY`. The artifacts are in
DIRECTORY/artifacts, the repository is DIRECTORY/models, and DIRECTORY/expected.json has for each
model its inputs and the runtime's answers.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

# The checkpoints of the other clients' tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "clients"))

import bertrt.cli
import inputs
import make_artifacts
from bertrt.export import export

make_artifacts.MODELS |= {
    "chooser": ("BertForMultipleChoice", {}),
    "follower": ("BertForNextSentencePrediction", {}),
    "pretrained": ("BertForPreTraining", {}),
    "splade": ("BertForMaskedLM", {}),
    "many": (
        "BertForSequenceClassification",
        make_artifacts.labelled(*(f"label {id}" for id in range(70))),
    ),
}
TASKS = {"splade": "sparse-embedding"}
LONG = " ".join(["cat sat dog"] * 400)
ODD = ["", " ", "日本語 한국어 🙂👩\u200d👧", 'quote " and \\ and \x00 and \n']
TEXTS = [*inputs.TEXTS, *ODD, LONG]
PAIRS = [(inputs.QUERY, document) for document in inputs.DOCUMENTS]
MASKED = [inputs.MASKED, inputs.MASKED_TWICE, "[MASK]"]
# The inputs of each model; texts have pairs beside them where the head takes pairs.
ASKED: dict[str, tuple[list[str], list[Any] | None]] = {
    "embedder": (TEXTS, None),
    "reranker": ([query for query, _ in PAIRS], [document for _, document in PAIRS]),
    "sentiment": (TEXTS, None),
    "nli": ([inputs.PAIR[0]] * 2, [inputs.PAIR[1], ""]),
    "many": (TEXTS[:2], None),
    "tagger": (TEXTS, None),
    "filler": (MASKED, None),
    "reader": ([inputs.QUESTION["question"]], [inputs.QUESTION["context"]]),
    "writer": (TEXTS[:1], None),
    "chooser": ([inputs.QUERY] * 2, [inputs.DOCUMENTS[:2], inputs.DOCUMENTS[2:]]),
    "follower": ([query for query, _ in PAIRS], [document for _, document in PAIRS]),
    "pretrained": (MASKED, None),
    "splade": (TEXTS[:5], None),
}
# Models of other kinds and with other settings, by their names: the artifact and the options.
VARIANTS = {
    "vectors": ("embedder", ("--kind", "ensemble")),
    "logits": ("nli", ("--kind", "ensemble")),
    "strict": ("embedder", ("--no-truncation",)),
    "small": ("embedder", ("--queue", "1", "--max-batch", "1", "--threads", "1")),
}


def main() -> None:
    """Write all of it."""
    root = Path(sys.argv[1])
    (root / "models").mkdir()
    expected = {}
    for seed, (name, (texts, pairs)) in enumerate(ASKED.items()):
        make_artifacts.write_model(root / "checkpoints" / name, name, seed)
        export(root / "checkpoints" / name, root / "artifacts" / name, task=TASKS.get(name))
        with bertrt.load(root / "artifacts" / name, threads=1) as runtime:
            answers = answer(runtime, texts, pairs)
            logits = logits_of(runtime, texts, pairs) if name == "nli" else None
        expected[name] = {"texts": texts, "pairs": pairs, "answers": answers, "logits": logits}
        add_model(root, name, name)
    for name, (artifact, options) in VARIANTS.items():
        add_model(root, name, artifact, *options)
    text = json.dumps(expected, default=lambda value: value.tolist())
    (root / "expected.json").write_text(text, encoding="utf-8")


def answer(runtime: bertrt.Runtime, texts: list[str], pairs: list[Any] | None) -> Any:
    """Return the runtime's answers, by the calls that its users write."""
    task = runtime.info["task"]
    items: list[Any] = [*texts] if pairs is None else [*zip(texts, pairs, strict=True)]
    if task == "feature-extraction":
        return runtime.embed(items)
    if task == "question-answering":
        asked = [{"question": question, "context": context} for question, context in items]
        return runtime(asked)
    if task == "multiple-choice":
        asked = [{"prompt": prompt, "choices": choices} for prompt, choices in items]
        return runtime(asked, truncation=True)
    if task == "text-generation":
        return runtime(items)
    options = {"top_k": None} if task == "text-classification" else {}
    return runtime(items, truncation=True, **options)


def logits_of(runtime: bertrt.Runtime, texts: list[str], pairs: list[Any] | None) -> Any:
    """Return a classifier's logits of pairs."""
    return runtime.run(**runtime.tokenize(texts, pairs))["logits"]


def add_model(root: Path, name: str, artifact: str, *options: str) -> None:
    """Add a model to the repository, as a user does."""
    command = ["export-triton", str(root / "artifacts" / artifact), str(root / "one")]
    assert bertrt.cli.main([*command, "--name", name, *options]) == 0
    for folder in (root / "one").iterdir():
        if folder.is_dir():
            folder.rename(root / "models" / folder.name)
    shutil.rmtree(root / "one")


if __name__ == "__main__":
    main()
