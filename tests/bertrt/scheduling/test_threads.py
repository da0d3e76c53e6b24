"""Threads: the CPUs of the affinity mask, limited by the cgroup's quota, or a given number."""

from pathlib import Path

import pytest

from bertrt.errors import InputError
from bertrt.scheduling.threads import choose_threads


def write_cgroup(root: Path, path: str, limits: dict[str, str]) -> Path:
    """Return a fake root with a cgroup v2 tree; `limits` maps a group's path to its cpu.max."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{path}\n")
    for group, limit in limits.items():
        folder = root / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(limit)
    return root


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8),
        ({"a/b": "max 100000"}, 8),
        ({"a/b": "400000 100000"}, 4),
        ({"a/b": "250000 100000"}, 2),
        ({"a/b": "50000 100000"}, 1),
        ({"a": "300000 100000", "a/b": "max 100000"}, 3),
        ({"a": "300000 100000", "a/b": "200000 100000"}, 2),
        ({"": "200000 100000"}, 2),  # in a container, the path of the group is not mounted
        ({"a/b": "1600000 100000"}, 8),
        ({"a/b": "nonsense"}, 8),
    ],
)
def test_cgroup_v2(tmp_path: Path, limits: dict[str, str], expected: int) -> None:
    root = write_cgroup(tmp_path, "/a/b", limits)
    assert choose_threads("auto", root=root, available=8).count == expected


def test_cgroup_v1(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/x\n3:cpu,cpuacct:/x\n")
    group = tmp_path / "sys/fs/cgroup/cpu,cpuacct/x"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    chosen = choose_threads("auto", root=tmp_path, available=8)
    assert chosen.count == 3
    assert "quota of 3" in chosen.reason
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert choose_threads("auto", root=tmp_path, available=8).count == 8


def test_without_a_cgroup(tmp_path: Path) -> None:
    chosen = choose_threads("auto", root=tmp_path, available=5)
    assert chosen.count == 5
    assert "affinity" in chosen.reason


def test_a_given_number_is_used(tmp_path: Path) -> None:
    root = write_cgroup(tmp_path, "/a", {"a": "100000 100000"})
    assert choose_threads(7, root=root, available=8).count == 7


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "many", None])
def test_other_values_are_refused(threads: object) -> None:
    with pytest.raises(InputError, match=r"threads is .*'auto'"):
        choose_threads(threads)  # type: ignore[arg-type]
