"""The end-of-sequence token of an exported decoder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bertrt.export import export


@pytest.mark.parametrize(
    ("in_config", "in_generation_config", "expected"),
    [(3, None, 3), (3, 7, 7), (None, [7, 8], [7, 8]), (None, None, None)],
)
def test_end_of_sequence_token(
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    in_config: object,
    in_generation_config: object,
    expected: object,
) -> None:
    from bertrt.export.checkpoints.checkpoint import open_checkpoint
    from bertrt.export.checkpoints.generation_config import eos_token_id

    folder = tmp_path / "checkpoint"
    shutil.copytree(make_checkpoint("BertLMHeadModel"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = in_config
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": in_generation_config})
    )
    assert eos_token_id(open_checkpoint(str(folder))) == expected


def test_the_artifacts_config_has_the_token(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(make_checkpoint("BertLMHeadModel", num_hidden_layers=1), folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    export(folder, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 7
