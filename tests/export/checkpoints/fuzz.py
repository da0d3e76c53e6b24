"""Damage checkpoints at random and open them: `python fuzz.py CASES WORK ROUNDS SEED`.

This is a process of its own, since a reader that crashes would end the tests too. Any exception but
ExportError ends it. At the end it prints how many were read and refused, the most seconds that one
took, and by how many megabytes the process has grown.
"""

import json
import random
import resource
import shutil
import sys
import time
from pathlib import Path

import bundle_writer
from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import open_checkpoint

CASES = [
    "tf1-parts",
    "tf1-squad",
    "tf2-pretraining",
    "h5-question-answering",
    "h5-shards-question-answering",
    "tf-safetensors-question-answering",
    "msgpack-pretraining",
    "msgpack-shards-multiple-choice",
]
_TEXT = (".json", ".txt", ".npz", "checkpoint")


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Truncate bytes, flip bits, or insert a large number."""
    out = bytearray(data)
    if chance.random() < 0.15:
        return bytes(out[: chance.randrange(len(out) + 1)])
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(out))
        if chance.random() < 0.6:
            out[at] ^= 1 << chance.randrange(8)
        else:
            number = chance.choice((0, 255, chance.randrange(256)))
            out[at : at + 8] = bytes([number]) * chance.randrange(1, 9)
    return bytes(out)


def signed_again(data: bytes, chance: random.Random) -> bytes:
    """Damage an index's entries but keep its checksums valid, to test the code after the check."""
    blocks = bundle_writer.split(data)
    picked = chance.randrange(len(blocks))
    out = b""
    for number, block in enumerate(blocks):
        changed = damaged(block, chance)[: len(block)] if number == picked else block
        # Keep the length, so that the positions of other blocks stay valid.
        out += bundle_writer.signed_block(changed.ljust(len(block), b"\0"))
    return out + data[-48:]


def main() -> None:
    """Damage, open, count."""
    cases, work = Path(sys.argv[1]), Path(sys.argv[2])
    chance = random.Random(int(sys.argv[4]))
    read = refused = 0
    slowest = 0.0
    for name in CASES:
        open_checkpoint(str(cases / name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(int(sys.argv[3])):
        name = chance.choice(CASES)
        folder = work / name
        shutil.copytree(cases / name, folder)
        files = [path for path in sorted(folder.iterdir()) if not path.name.endswith(_TEXT)]
        path = chance.choice(files)
        data = path.read_bytes()
        sign = path.suffix == ".index" and chance.random() < 0.8
        path.write_bytes(signed_again(data, chance) if sign else damaged(data, chance))
        start = time.perf_counter()
        message = ""
        try:
            open_checkpoint(str(folder))
            read += 1
        except ExportError as error:
            message = str(error)
            refused += 1
        assert "\n" not in message, message
        slowest = max(slowest, time.perf_counter() - start)
        shutil.rmtree(folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"read": read, "refused": refused, "slowest": slowest, "grown": grown}))


if __name__ == "__main__":
    main()
