"""deploy/Dockerfile: what it copies exists, it needs no PyTorch, and its command is bertrt's."""

import fnmatch
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertrt.serving.app import ROUTES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line]


def all_of(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def copied() -> list[str]:
    """Return what is copied from the checkout."""
    return [
        source
        for rest in all_of("COPY")
        if not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]


def test_instructions_are_known() -> None:
    known = "FROM WORKDIR COPY RUN ENV USER EXPOSE HEALTHCHECK ENTRYPOINT CMD".split()
    assert {name for name, _ in INSTRUCTIONS} == set(known)


def test_the_checkout_has_what_is_copied() -> None:
    for source in copied():
        assert (ROOT / source).exists(), source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied())
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert folders <= set(copied())


def test_nothing_else_is_sent_to_the_builder() -> None:
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    assert not any(fnmatch.fnmatch(name, rules[-1]) for name in copied())


def test_what_is_installed() -> None:
    """The extras exist, and none brings PyTorch."""
    (command,) = all_of("RUN")
    extras = set(re.findall(r"\.\[([\w,]+)\]", command)[0].split(","))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = project["project"]["optional-dependencies"]
    assert extras == {"cpu", "serve"}
    packages = [package for extra in extras for package in known[extra]]
    assert not any(package.startswith(("torch", "transformers")) for package in packages)
    for base in all_of("FROM"):
        version = re.search(r"^python:(3\.\d+)-slim", base)
        assert version is not None
        assert (
            f"Programming Language :: Python :: {version[1]}" in project["project"]["classifiers"]
        )


def test_the_image_is_not_root() -> None:
    (user,) = all_of("USER")
    assert all(int(number) > 0 for number in user.split(":"))
    last = max(place for place, (name, _) in enumerate(INSTRUCTIONS) if name == "COPY")
    assert [name for name, _ in INSTRUCTIONS].index("USER") > last


def test_the_command(parse_serve: Callable[[list[str]], Any]) -> None:
    (entrypoint,), (command,) = all_of("ENTRYPOINT"), all_of("CMD")
    assert json.loads(entrypoint) == ["bertrt"]
    arguments = parse_serve(json.loads(command))
    assert arguments.host == "0.0.0.0"
    assert [(name, str(path)) for name, path in arguments.models] == [("model", "/models/model")]
    (ports,) = all_of("EXPOSE")
    assert str(arguments.port) in ports.split()
    (check,) = all_of("HEALTHCHECK")
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert address is not None
    assert int(address[1]) == arguments.port
    assert ROUTES["GET", address[2]].is_open
