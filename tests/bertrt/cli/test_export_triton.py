"""`bertrt export-triton`: what it prints, and how options reach the repository."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.triton_repository.write import KINDS


def test_a_repository(
    bertrt_command: Callable[..., Any], make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    path, output = make_artifact("BertModel"), tmp_path / "models"
    options = ("--max-batch", 8, "--queue", 16, "--threads", 3, "--no-truncation")
    done = bertrt_command("export-triton", path, output, "--name", "mini", *options, "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out) == {"output": str(output), "model": "mini", "kind": "python"}
    config = (output / "mini" / "config.pbtxt").read_text(encoding="utf-8")
    assert "max_batch_size: 8\n" in config
    assert "max_queue_size: 16\n" in config
    for key, value in (("threads", "3"), ("truncation", "false")):
        assert f'key: "{key}"\n  value {{\n    string_value: "{value}"' in config


def test_the_name_of_the_directory(
    bertrt_command: Callable[..., Any],
    make_artifact: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = make_artifact("BertModel")
    monkeypatch.chdir(path)
    done = bertrt_command("export-triton", ".", tmp_path / "models", "--kind", "ensemble")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"wrote {tmp_path / 'models'}: model {path.name}, kind ensemble;")


def test_an_output_that_exists(
    bertrt_command: Callable[..., Any], make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    done = bertrt_command("export-triton", make_artifact("BertModel"), tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"bertrt: error: {str(tmp_path)!r} exists: choose another output, or remove it\n"
    )


def test_the_kinds_of_the_option(
    bertrt_command: Callable[..., Any], make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    done = bertrt_command("export-triton", tmp_path, tmp_path / "models", "--kind", "other")
    assert done.status == 2
    for kind in KINDS:
        assert f"'{kind}'" in done.err or kind in done.err
