"""Memory does not grow over many shapes and texts, and is freed after a very large batch.

Each test measures the anonymous resident memory of a separate process after a warm-up. The graph
is tiny, so the growth is what calls keep, not what a run needs.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads Linux's /proc"
)

COMMON = """
import sys
import numpy as np
import bertrt

def kilobytes(name="RssAnon"):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

rt = bertrt.load(sys.argv[1], threads=1)
"""

SHAPES = """
random = np.random.default_rng(0)
for call in range(10_000):
    if call == 2000:
        before = kilobytes()
    shape = random.integers(1, (5, 65))
    rt.run(input_ids=random.integers(5, 200, shape))
print(kilobytes() - before)
"""

GENERATOR = """
def texts():
    for number in range(12_000):
        yield "the cat " * (number % 13) + "[MASK]"

for number, _ in enumerate(rt(texts(), top_k=1)):
    if number == 3000:
        before = kilobytes()
print(kilobytes() - before)
"""

LIST = """
texts = ["the cat sat " * 20 + "[MASK]"] * 1500
rt(texts[:50], top_k=1)
before = kilobytes("VmHWM")
rt(texts, top_k=1)
print(kilobytes("VmHWM") - before)
"""

EMBED = """
import contextlib, io
from bertrt.cli import main

class Lines(io.RawIOBase):
    # 16,000 lines, 400 at a time.
    left = 40

    def readable(self):
        return True

    def readinto(self, buffer):
        global before, after
        if self.left == 32:
            before = kilobytes()
        if self.left == 0:
            after = kilobytes()
            return 0
        self.left -= 1
        data = b"a cat\\n" * 400
        buffer[: len(data)] = data
        return len(data)

sys.stdin = io.TextIOWrapper(io.BufferedReader(Lines(), 1 << 16))
poolings = "mean,cls,max,mean_sqrt_len_tokens,weightedmean,lasttoken"
with contextlib.redirect_stdout(None):
    main(["embed", sys.argv[1], "--output", sys.argv[2], "--pooling", poolings])
print(after - before)
"""

LARGE = """
small = np.full((4, 64), 7)
for _ in range(20):
    rt.run(input_ids=small)
before = kilobytes()
rt.run(input_ids=np.full((400, 64), 7), attention_mask=np.ones((400, 64), dtype=np.int64))
for _ in range(20):
    rt.run(input_ids=small)
print(kilobytes() - before)
"""


def growth(artifact: Path, code: str, *arguments: Path) -> float:
    """Return how many megabytes the memory of a process that runs `code` grew by."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMMON + code, str(artifact), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return int(done.stdout) / 1000


@pytest.fixture(scope="module")
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertForMaskedLM")


def test_ten_thousand_random_shapes(artifact: Path) -> None:
    """8 MB over 8,000 calls is 1 kB a call: less than a memory plan for each shape."""
    assert growth(artifact, SHAPES) < 8


def test_a_generator_of_texts(artifact: Path) -> None:
    """The logits of one chunk of 1,024 texts alone are more than 10 MB."""
    assert growth(artifact, GENERATOR) < 8


def test_lines_that_are_embedded_into_a_file(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    """The vectors of the lines after the first measurement are 10 MB."""
    output = tmp_path / "vectors.npy"
    assert growth(make_artifact("BertModel"), EMBED, output) < 4
    assert output.stat().st_size > 12e6


def test_a_list_of_texts_does_not_keep_logits(artifact: Path) -> None:
    """The logits of all texts, 62 tokens each, are about 100 MB."""
    assert growth(artifact, LIST) < 40


def test_a_very_large_batch_frees_its_memory(artifact: Path) -> None:
    """Its logits and activations are more than 70 MB."""
    assert growth(artifact, LARGE) < 20
