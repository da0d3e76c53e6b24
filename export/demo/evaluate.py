"""Evaluate the demo model on its held-out sentences: `python -m bertrt.export.demo.evaluate`."""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from bertrt.export.demo.corpus import Cloze, held_out, sentences

__all__ = ["Result", "evaluate", "report", "totals"]

_HERE = Path(__file__).resolve().parent
_TOP = 5
_SEED = 0


@dataclass(frozen=True)
class Result:
    """A held-out sentence, and the model's five best words for its mask, best first."""

    cloze: Cloze
    words: tuple[str, ...]

    @property
    def first(self) -> bool:
        """Whether the best word is a correct answer."""
        return self.words[0] in self.cloze.answers

    @property
    def among_five(self) -> bool:
        """Whether one of the five best words is a correct answer."""
        return any(word in self.cloze.answers for word in self.words)


def evaluate(folder: Path = _HERE, others: int = 0) -> list[Result]:
    """Return the model's answers to each held-out sentence, in the files' order, in float32.

    With `others` above 0, each is in the middle of that many sentences of the training text, drawn
    at random with a fixed seed.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    pool = sentences(_SEED) if others else []
    results = []
    for number, cloze in enumerate(held_out()):
        around = random.Random(number).sample(pool, others)
        middle = others // 2
        text = " ".join([*around[:middle], cloze.sentence, *around[middle:]])
        encoding = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**encoding).logits[0]
        masks = encoding["input_ids"][0] == tokenizer.mask_token_id
        best = logits[masks][0].topk(_TOP).indices.tolist()
        results.append(Result(cloze, tuple(tokenizer.convert_ids_to_tokens(best))))
    return results


def report(results: list[Result]) -> str:
    """Format one line a sentence (1: best word, 5: one of five, -: neither), then the totals."""
    lines = [
        f"{'1' if result.first else '5' if result.among_five else '-'}  "
        f"{result.cloze.sentence}  {', '.join(result.words)}"
        for result in results
    ]
    return "\n".join([*lines, *totals(results)])


def totals(results: list[Result]) -> list[str]:
    """Format one line for each file of held-out sentences: how many answers were correct."""
    lines = []
    for source in dict.fromkeys(result.cloze.source for result in results):
        of_file = [result for result in results if result.cloze.source == source]
        first = sum(result.first for result in of_file)
        among = sum(result.among_five for result in of_file)
        lines.append(
            f"{source}: of {len(of_file)}, {first} correct at the top, {among} in the top five"
        )
    return lines


def main() -> None:
    """Print the report on a folder, by default that of the embedded model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=_HERE)
    parser.add_argument(
        "--others", type=int, default=0, help="sentences to put around each; default: %(default)s"
    )
    arguments = parser.parse_args()
    print(report(evaluate(arguments.folder, arguments.others)))


if __name__ == "__main__":
    main()
