"""Export and load the embedded model, and ask it the README's sentence."""

from pathlib import Path

import bertrt
from bertrt.export import export

SENTENCE = "Plants create [MASK] through a process known as photosynthesis."


def test_demo(tmp_path: Path) -> None:
    manifest = export("demo", tmp_path / "out")
    assert manifest.source["model"] == "demo"
    assert manifest.source["revision"] is None
    assert manifest.parity["outputs"][0]["absolute_error"] <= 1e-4
    with bertrt.load(tmp_path / "out") as rt:
        best = [answer["token_str"] for answer in rt(SENTENCE)]
        assert best[0] in {"oxygen", "sugar", "food", "energy", "glucose"}
        assert rt(SENTENCE.upper().replace("[mask]", "[MASK]"))[0]["token_str"] == best[0]


def test_long_and_odd_texts(tmp_path: Path) -> None:
    export("demo", tmp_path / "out", device="any")
    with bertrt.load(tmp_path / "out") as rt:
        for text in ("[MASK]", "[MASK] " * 20, "the sun is [MASK]. " * 60, "中 [MASK] 🙂 é"):
            rt(text)
