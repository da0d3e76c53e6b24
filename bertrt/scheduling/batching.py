"""Which rows go into a batch together: sorted by length, up to a budget of padded tokens.

Sorting keeps padding small, and a small budget keeps a batch's activations in the caches. There is
no limit on the rows of a batch: many short ones measure as well as few long ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertrt.checks import check_whole_or_auto

__all__ = ["Budget", "choose_budget", "plan"]

# Near the best wherever it was measured.
_UNKNOWN_CACHE = 256
_LEAST, _MOST = 128, 1024
# Within 4 % of the best of 64 to 1024, for 384 and 768 features, float32 and int8; 384 is faster by
# 1 to 3 % in float32, and pads texts by as much more.
_ONE_THREAD = 256
# Enough to fill a large GPU, as reasoned: 128 sequences of 128 tokens.
_GPU = 16384


@dataclass(frozen=True)
class Budget:
    """The most padded tokens of a batch, and the sentence that says where the number is from."""

    tokens: int
    reason: str


def choose_budget(
    max_batch_tokens: int | str = "auto",
    *,
    hidden_size: int,
    threads: int,
    device: str = "cpu",
    root: Path = Path("/"),
) -> Budget:
    """The token budget of one runtime.

    "auto" is what fits the second-level caches of the cores in use: two float32 hidden states a
    token (a layer's input and its output), 8·H bytes, rounded down to a power of two, and
    between 128 (smaller products of matrices lose speed) and 1024 (larger batches are padded
    more): 256 for BERT-base on two cores with 1 MB each. Between half and twice that, times
    differ by a few percent. One thread is given 256. On a GPU it is 16,384, of which the padding
    costs nothing where the engine is Triton.

    Args:
        max_batch_tokens: a number, or "auto".
        hidden_size: H.
        threads: how many threads a run has.
        device: the device of the artifact's target; "cuda" for a GPU.
        root: where `sys` is mounted; another folder in tests.

    Raises InputError for anything that is neither "auto" nor a whole number of at least 1.
    """
    check_whole_or_auto("max_batch_tokens", max_batch_tokens)
    if isinstance(max_batch_tokens, int):
        return Budget(max_batch_tokens, "chosen by the caller")
    if device == "cuda":
        return Budget(_GPU, "a GPU is filled by large batches")
    if threads == 1:
        return Budget(_ONE_THREAD, "what one thread computes best at a time")
    cache = _second_level_cache(root, threads)
    if not cache:
        return Budget(_UNKNOWN_CACHE, "the caches of this machine are not known")
    fitting = cache // (8 * hidden_size)
    tokens = min(max(1 << max(fitting.bit_length() - 1, 0), _LEAST), _MOST)
    return Budget(tokens, f"{cache >> 10} kB of second-level cache, hidden size {hidden_size}")


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split rows into batches.

    Args:
        lengths: each row's length in tokens.
        budget: the most padded tokens (rows × longest row) of a batch; a longer row is a batch
            of its own.

    Returns lists of indices into `lengths`, each index once, shortest rows first.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # In this order the row at hand is the longest of its batch.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _second_level_cache(root: Path, threads: int) -> int:
    """The bytes of second-level cache that so many threads have between them; 0: not known."""
    for cache in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if (cache / "level").read_text().strip() != "2":
                continue
            size = _bytes((cache / "size").read_text().strip())
            sharing = _count((cache / "shared_cpu_list").read_text().strip())
        except (OSError, ValueError):
            return 0
        return size * max(1, threads // sharing)
    return 0


def _bytes(text: str) -> int:
    """The number of bytes in a size such as 1024K."""
    units = {"K": 1 << 10, "M": 1 << 20}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def _count(cpus: str) -> int:
    """How many CPUs a list such as 0-3,8 names."""
    ends = [part.split("-") for part in cpus.split(",")]
    return sum(int(part[-1]) - int(part[0]) + 1 for part in ends)
