"""Repeated ids are found however many there are, and others are not suspected for their form."""

import re
import tempfile

import numpy as np
import pytest

from bertrt.batch.duplicates import DuplicateFinder
from bertrt.errors import BertrtError


def find(ids: list[int | str | None], step: int = 5000) -> frozenset[int]:
    with DuplicateFinder() as finder:
        for start in range(0, len(ids), step):
            finder.add(ids[start : start + step])
        return finder.find()


@pytest.mark.parametrize("count", [3, 200_000])
def test_repeated_ids(count: int) -> None:
    """The larger number goes through files."""
    ids: list[int | str | None] = [f"id {n}" for n in range(count)]
    assert find(ids) == frozenset()
    ids[-1] = ids[0]
    assert find(ids) == {hash("id 0")}


@pytest.mark.parametrize("factor", [1, -1, 1 << 20])
def test_numbers(factor: int) -> None:
    ids: list[int | str | None] = [n * factor for n in range(3, 100_000)]
    assert find(ids) == frozenset()
    assert find([*ids, 7 * factor, 9 * factor]) == {7 * factor, 9 * factor}


def test_numbers_with_equal_hashes_of_python() -> None:
    """None is suspected: suspicions that are too many to hold would hide a real duplicate."""
    ids: list[int | str | None] = [n + top for top in (0, 1 << 61) for n in range(50_000)]
    assert hash(1 << 61) == hash(1)
    assert find([*ids, -1, -2, -(2**63), 2**63 - 1]) == frozenset()
    assert find([*ids, (1 << 61) + 49_999]) == {(1 << 61) + 49_999}


def test_null_is_no_id() -> None:
    assert find([None, 1, None, 2]) == find([]) == find([None]) == frozenset()


def test_many_duplicates_are_not_all_held() -> None:
    found = find([*range(50_000), *range(50_000)])
    assert 10_000 <= len(found) < 20_000
    assert found <= {*range(50_000)}


def test_files_take_eight_bytes_an_id_and_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertrt.batch.duplicates._BUFFER", 1000)
    with DuplicateFinder() as finder:
        finder.add([n << 10 for n in range(64_000)])
        sizes = np.array([file.seek(0, 2) for file in finder._files])
    assert sizes.sum() == 8 * 64_000
    assert sizes.max() < 2 * sizes.mean()


@pytest.mark.parametrize("count", [1001, 100_000], ids=["while it looks", "while it adds"])
def test_a_full_disk_is_said_with_its_folder(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("bertrt.batch.duplicates._BUFFER", 1000)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b"))  # noqa: SIM115
    expected = f"'{tempfile.gettempdir()}' cannot be written (No space left on device): make room"
    with pytest.raises(BertrtError, match=re.escape(expected)):
        find([*range(count)], step=count)
