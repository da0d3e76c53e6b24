"""Write a tiny checkpoint of every head, and its artifacts, for other environments to open.

Run in the development environment: `python make_artifacts.py DIRECTORY`.
"""

import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer

import bertrt.export.demo
from bertrt.export import export
from bertrt.export.heads import HEADS


def main() -> None:
    """Write DIRECTORY/<class name>/{checkpoint,cpu,any} for each head."""
    root = Path(sys.argv[1])
    demo = Path(bertrt.export.demo.__file__).parent
    vocabulary = Tokenizer.from_file(str(demo / "tokenizer.json")).get_vocab_size()
    for head in HEADS:
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=37,
            max_position_embeddings=64,
            is_decoder=head.class_name == "BertLMHeadModel",
            initializer_range=0.1,
        )
        folder = root / head.class_name
        getattr(transformers, head.class_name)(config).save_pretrained(folder / "checkpoint")
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (folder / "checkpoint" / name).write_bytes((demo / name).read_bytes())
        for device in ("cpu", "any"):
            export(folder / "checkpoint", folder / device, device=device)


if __name__ == "__main__":
    main()
