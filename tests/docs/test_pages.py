"""The pages of the documentation, beside what `mkdocs build --strict` checks."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Links and images, and in decisions and architecture the project's own paths."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r'(?:src|srcset)="([^"]+)"', text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:bertrt|export|kernels|benchmarks)/[\w/]+(?:\.py|/)?)`", text):
        known_past = path in ("export/export.py", "export/pipeline.py")
        assert known_past or (ROOT / path).exists(), path


def test_readme_links() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#\s]+)", readme):
        assert (ROOT / target).exists(), target


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"([\w/-]+\.md)$", config, re.MULTILINE))
    assert listed == {str(page.relative_to(DOCS)) for page in PAGES}


def test_the_site_fetches_nothing() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config
    assert "://" not in config
    for page in PAGES:
        assert not re.search(r'(src|srcset)="https?:', page.read_text(encoding="utf-8")), page


def test_pictures_are_as_drawn() -> None:
    path = DOCS / "pictures" / "draw.py"
    spec = importlib.util.spec_from_file_location("draw", path)
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    for name, svg in draw.pictures().items():
        assert (path.parent / name).read_text(encoding="utf-8") == svg, f"run {path}"


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda p: p.name)
def test_form_of_decisions(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    entries = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert entries or page.name == "index.md"
    for entry in entries:
        title = entry.partition("\n")[0]
        parts = re.findall(r"^\*\*(\w+)\.\*\* ", entry, re.MULTILINE)
        assert parts in (
            ["Decision", "Why", "Evidence", "Status"],
            ["Decision", "Why", "Status"],
            ["Decision", "Evidence", "Status"],
        ), title


def test_every_difference_from_transformers_is_held_by_a_test() -> None:
    page = (DOCS / "guides" / "differences.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "| why |" not in line]
    held = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(held) == len(rows) + 2  # reranking and question answering have no tables
    assert all(re.search(r" `tests/[\w/]+\.py::\w+` \|$", row) for row in rows)
    for path, name in held:
        assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), name
