"""The pages of docs/benchmarks: which rows they show, and that they are up to date."""

from pathlib import Path

import pytest

from benchmarks.harness.results import append
from benchmarks.reporting.pages import PAGES, Pages, update_readme
from benchmarks.reporting.published import KINDS, earlier, kind_of, published

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "benchmarks"
MACHINE = {
    "cpu": "AMD EPYC",
    "flags": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni"],
    "cores": 2,
    "threads": 2,
}
GROUP = ("fixed", "minilm", "embeddings")


@pytest.fixture(scope="module")
def pages():
    return Pages(DOCS / "results.jsonl")


def row(run, contender, *, shape="1x8", machine=MACHINE, weights="random", median=1.0):
    workload, model, task = GROUP
    return {
        "run": run,
        "machine": machine,
        "workload": workload,
        "model": model,
        "task": task,
        "weights": weights,
        "contender": contender,
        "title": contender,
        "shape": shape,
        "status": "timed",
        "median_ms": median,
    }


def test_the_newest_run_is_shown_and_peers_that_it_lacks():
    rows = [
        row("1", "eager"),
        row("1", "sdpa"),
        row("1", "bertrt_int8"),
        row("2", "bertrt"),
        row("2", "eager", median=2.0),
        row("2", "eager", median=3.0),
    ]
    shown = published(rows)[GROUP]
    # In the registry's order; of repeated rows the last; bertrt only from the newest run.
    assert [(r["run"], r["contender"], r["median_ms"]) for r in shown] == [
        ("2", "eager", 3.0),
        ("1", "sdpa", 1.0),
        ("2", "bertrt", 1.0),
    ]
    assert earlier(shown) == {"sdpa": "1"}


def test_rows_of_other_machines_and_weights_are_not_shown():
    rows = [
        row("3", "eager", machine={**MACHINE, "flags": ["avx2"]}),
        row("3", "sdpa", machine={**MACHINE, "cores": 4}),
        row("3", "cuda_eager", machine={**MACHINE, "gpu": "NVIDIA X"}),
        row("2", "eager", weights="trained"),
        row("1", "sdpa"),
    ]
    assert published(rows)[GROUP] == [rows[3]]
    assert published(rows, "cuda")[GROUP] == [rows[2]]
    assert published(rows[:2], "cuda") == {}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_up_to_date(pages, name):
    """Run `python -m benchmarks.report --docs` when this fails."""
    assert (DOCS / name).read_text(encoding="utf-8") == pages.text(name)


@pytest.mark.parametrize("name", PAGES)
def test_the_images_of_pages_exist(pages, name):
    images = [part.partition(")")[0] for part in pages.text(name).split("](")[1:]]
    for image in images:
        assert (DOCS / image).exists(), image


def test_all_results_of_the_published_machine_are_on_a_page(pages):
    text = "".join(pages.text(name) for name in PAGES)
    for rows in pages.cpu.values():
        assert f"Run {max(r['run'] for r in rows)}," in text


def test_the_table_of_the_readme_is_up_to_date(pages):
    """Run `python -m benchmarks.report --docs` when this fails."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert update_readme(text, pages.readme_table()) == text


def test_only_the_table_between_the_markers_is_replaced():
    text = "a\n<!-- speed table -->\nold\n<!-- end of speed table -->\nb\n"
    assert update_readme(text, "| new |") == (
        "a\n<!-- speed table -->\n\n| new |\n\n<!-- end of speed table -->\nb\n"
    )
    with pytest.raises(ValueError, match="<!-- speed table -->"):
        update_readme("a", "| new |")


def test_unknown_directives_and_missing_rows_are_refused(pages):
    with pytest.raises(ValueError, match=r"a template has \{chart\}: use one of speed, plot"):
        pages._fill("chart", [])
    with pytest.raises(ValueError, match=r"\{plot fixed bert-huge embeddings\}, for which there"):
        pages._fill("plot", ["fixed", "bert-huge", "embeddings"])
    with pytest.raises(ValueError, match="no rows"):
        pages._fill("ratio", ["fixed", "minilm", "embeddings", "1x9", "bertrt", "eager"])


def test_rows_of_kinds_of_processors_are_apart():
    hidden = {**MACHINE, "flags": ["avx2"], "hidden": ["avx512f"]}
    amx = {**MACHINE, "cpu": "X", "flags": [*MACHINE["flags"], "amx_int8"]}
    rows = [
        row("1", "eager"),
        row("2", "eager", machine=amx),
        row("3", "eager", machine=hidden),
        row("4", "eager", machine={**MACHINE, "flags": []}),
    ]
    shown = [published(rows, kind=kind).get(GROUP) for kind in KINDS]
    assert shown == [[rows[1]], [rows[0]], [rows[2]]]
    assert kind_of(rows[3]["machine"]) is None


def test_each_kind_has_a_table_that_names_what_was_hidden(tmp_path):
    machine = {**MACHINE, "flags": ["avx2"], "hidden": ["avx512f", "avx512_vnni"]}
    error = {"max_abs": 0.0, "relative": 0.0, "worst_cosine": 1.0, "argmax_agreement": 1.0}
    fields = {"precision": "float32", "error": error, "speedup": {}, "n": 3}
    spread = {"p20_ms": 1.0, "p80_ms": 1.0, "commit": "c", "time": "t", "versions": {}}
    rows = [
        {**row("1", "eager"), **fields, **spread},
        {**row("2", "eager", machine=machine, median=7.0), **fields, **spread},
    ]
    results = tmp_path / "results.jsonl"
    append(results, rows)
    shown = Pages(results)
    assert shown._kinds("mixed", "minilm", "embeddings").startswith("No processor of another kind")
    text = shown._kinds(*GROUP)
    assert "### AVX2" in text
    assert "### AMX" not in text
    assert "hidden from all contenders: avx512f, avx512_vnni" in text
    assert "7 ms" in text
    assert "1 ms" not in text  # the page's own machine has a table of its own
