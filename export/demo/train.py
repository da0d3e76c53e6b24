"""Train the demo model and write its folder: `python -m bertrt.export.demo.train OUTPUT`.

This takes about a quarter of an hour on one core. Everything is seeded: the same versions of torch
and transformers on the same kind of processor give the same weights.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM

from bertrt.export.demo.batches import MAX_POSITIONS, Batch, Batches
from bertrt.export.demo.corpus import sentences
from bertrt.export.demo.evaluate import evaluate, report
from bertrt.export.demo.vocabulary import SPECIAL, build_tokenizer, make_vocabulary

__all__ = ["SEED", "main", "train", "write_tokenizer"]

SEED = 20
_HIDDEN = 128
# Of the initial weights. BERT's 0.02 suits 768 columns; a narrow model starts slowly with it.
_SPREAD = 0.06
_STEPS = 8000
_WARM_UP = 100
_PEAK_RATE = 1.2e-3
_WEIGHT_DECAY = 0.05
_LARGEST_NORM = 1.0
_REPORT_EVERY = 250


def train(texts: list[str], vocabulary: list[str], steps: int) -> BertForMaskedLM:
    """Train a BERT with a masked-LM head on sentences for a number of steps, in float32."""
    torch.manual_seed(SEED)
    model = BertForMaskedLM(_config(len(vocabulary)))
    model.bert.embeddings.position_embeddings.weight.data.copy_(_sinusoids())
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": _WEIGHT_DECAY}, {"params": vectors}],
        lr=_PEAK_RATE,
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / _WARM_UP, 1 - step / (steps + 1))
    )
    model.train()
    recent = 0.0
    for step, batch in enumerate(islice(Batches(texts, vocabulary, SEED), steps), start=1):
        loss = _loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_NORM)
        optimizer.step()
        schedule.step()
        recent += loss.item()
        if step % _REPORT_EVERY == 0:
            print(f"step {step} of {steps}: loss {recent / _REPORT_EVERY:.3f}", flush=True)
            recent = 0.0
    return model.eval()


def _config(tokens: int) -> BertConfig:
    return BertConfig(
        vocab_size=tokens,
        hidden_size=_HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=_SPREAD,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _sinusoids() -> torch.Tensor:
    """Return the original Transformer's positions, [512, 128], smaller than token embeddings.

    A shift is the same rotation everywhere, so that what is learned at the first positions holds
    at the last ones too. With random initial positions the same training learns next to nothing.
    """
    half = _HIDDEN // 2
    waves = 10000.0 ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(MAX_POSITIONS), waves)
    return torch.cat([angles.sin(), angles.cos()], dim=1) * (_SPREAD / 2**0.5)


def _loss(model: BertForMaskedLM, batch: Batch) -> torch.Tensor:
    hidden = model.bert(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        token_type_ids=batch.token_type_ids,
        position_ids=batch.position_ids,
    ).last_hidden_state
    # The head runs on masked positions only: on all of them it would be more than half of the work.
    masked = batch.labels != -100
    return torch.nn.functional.cross_entropy(model.cls(hidden[masked]), batch.labels[masked])


def write_tokenizer(vocabulary: list[str], folder: Path) -> None:
    """Write vocab.txt, tokenizer.json and tokenizer_config.json into a folder."""
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    build_tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    settings: dict[str, Any] = {
        "do_lower_case": True,
        "model_max_length": MAX_POSITIONS,
        "tokenizer_class": "BertTokenizer",
        **dict(zip(names, SPECIAL, strict=True)),
    }
    text = json.dumps(settings, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Train, write the folder, and print the model's answers to the held-out sentences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the folder to write")
    parser.add_argument("--steps", type=int, default=_STEPS, help="default: %(default)s")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # more would change the order of sums, and so the weights
    texts = sentences(SEED)
    vocabulary = make_vocabulary(texts)
    print(f"{len(texts)} sentences, {len(vocabulary)} tokens in the vocabulary", flush=True)
    model = train(texts, vocabulary, arguments.steps).half()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.output)
    write_tokenizer(vocabulary, arguments.output)
    print(report(evaluate(arguments.output)))


if __name__ == "__main__":
    main()
