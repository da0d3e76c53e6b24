"""Write a tiny checkpoint of every head, and its artifacts, for other environments to open.

Run in the development environment: `python make_artifacts.py DIRECTORY`.
"""

import sys
from pathlib import Path

from bertrt.export import export
from bertrt.export.heads import HEADS
from random_checkpoint import write_checkpoint


def main() -> None:
    """Write DIRECTORY/<class name>/{checkpoint,cpu,any} for each head."""
    root = Path(sys.argv[1])
    for head in HEADS:
        folder = root / head.class_name
        write_checkpoint(
            folder / "checkpoint",
            head.class_name,
            hidden_size=32,
            intermediate_size=37,
            is_decoder=head.class_name == "BertLMHeadModel",
        )
        for device in ("cpu", "any"):
            export(folder / "checkpoint", folder / device, device=device)


if __name__ == "__main__":
    main()
