"""Packages that are too old for an artifact are refused."""

import dataclasses
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from bertrt.artifact.directory import Artifact
from bertrt.engines.ort_options import OrtOptions
from bertrt.engines.select import find_target, open_graph
from bertrt.engines.versions import check_versions
from bertrt.errors import DeviceError


@pytest.mark.parametrize(
    ("installed", "required", "new_enough"),
    [
        ("2.8", "2.8.0", True),
        ("2.8.0", "2.8", True),
        ("2.11.0+cu128", "2.8", True),
        ("3.4.0rc1", "3.4", True),
        ("3", "2.9.9", True),
        ("unknown", "2.8", True),
        ("2.7.1+cu126", "2.8", False),
        ("1.19", "1.19.1", False),
    ],
)
def test_versions_are_compared_by_number(
    monkeypatch: pytest.MonkeyPatch, installed: str, required: str, new_enough: bool
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: installed)
    if new_enough:
        check_versions({"torch": required})
        return
    with pytest.raises(DeviceError, match=f"needs torch {required} or newer, and .* is installed"):
        check_versions({"torch": required})


def test_missing_packages_pass() -> None:
    check_versions({"no-such-package": "1"})
    check_versions({})


def test_opening_a_triton_graph_checks_versions(make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    artifact = Artifact.open(path)
    manifest = artifact.manifest
    assert manifest.graph.least
    target, options = find_target(manifest.target), OrtOptions("disabled", 1, "triton")
    open_graph(artifact, target, options)
    later = dataclasses.replace(manifest.graph, least={"torch": "99.1"})
    artifact = dataclasses.replace(artifact, manifest=dataclasses.replace(manifest, graph=later))
    with pytest.raises(DeviceError, match=r"needs torch 99\.1 or newer"):
        open_graph(artifact, target, options)
