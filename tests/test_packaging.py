"""Packaging: the wheel and the sdist have every source file once, and links stay inside."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_links_are_relative_and_stay_in_the_repository() -> None:
    links = [path for path in (ROOT / "bertrt").rglob("*") if path.is_symlink()]
    assert {path.name for path in links} == {"export", "kernels"}
    for link in links:
        assert link.readlink() == Path("..") / link.name
        assert link.resolve() == ROOT / link.name


def test_wheel_and_sdist_have_each_file_once_and_no_link(tmp_path: Path) -> None:
    for name in ("bertrt", "export", "kernels"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    code = (
        "from setuptools import build_meta\n"
        "print('names', build_meta.build_sdist('.'), build_meta.build_wheel('.'))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error::ImportWarning", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, sdist, wheel = done.stdout.splitlines()[-1].split()

    sources = [path for name in ("bertrt", "export", "kernels") for path in files_in(ROOT / name)]
    with tarfile.open(tmp_path / sdist) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    packed = [member.name.partition("/")[2] for member in members if member.isfile()]
    folders = ("bertrt/", "export/", "kernels/")
    assert sorted(name for name in packed if name.startswith(folders)) == sorted(sources)

    installed = [re.sub(r"^(export|kernels)/", r"bertrt/\1/", name) for name in sources]
    with zipfile.ZipFile(tmp_path / wheel) as archive:
        packed = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert sorted(packed) == sorted(installed)


def files_in(folder: Path) -> list[str]:
    """Return the files of a package by their paths from the root, without those behind links."""
    return [
        str(path.relative_to(ROOT))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
