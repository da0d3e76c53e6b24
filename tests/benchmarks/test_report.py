"""Tables, plots and pages: what a reader sees, and that refused rows never look timed."""

import importlib.util

import pytest

from benchmarks.harness.results import append
from benchmarks.report import main
from benchmarks.reporting.report_data import (
    bars_of_amounts,
    bars_of_ratios,
    curves,
    error_text,
    not_timed,
    worst_error,
)
from benchmarks.reporting.tables import markdown

ERROR = {"max_abs": 1e-6, "relative": 2e-6, "worst_cosine": 0.99999, "argmax_agreement": 1.0}


def row(contender, shape="1x128", **values):
    return {
        "schema": 1,
        "run": "20260101T000000Z",
        "commit": "abc",
        "machine": {
            "cpu": "A CPU",
            "flags": ["avx2"],
            "cores": 2,
            "memory_gib": 8.0,
            "system": "Linux 6",
            "python": "3.11.7",
            "threads": 2,
        },
        "workload": "fixed",
        "model": "minilm",
        "weights": "random",
        "task": "embeddings",
        "contender": contender,
        "title": contender.title(),
        "precision": "float32",
        "shape": shape,
        "status": "timed",
        "versions": {"numpy": "2.0"},
        "error": ERROR,
        **values,
    }


def times(contender, shape, median, speedup=None, **values):
    return row(
        contender,
        shape,
        median_ms=median,
        p20_ms=median - 1,
        p80_ms=median + 1,
        n=5,
        speedup=speedup or {},
        **values,
    )


def refusal(contender, reason, shape=""):
    return row(contender, shape, status="refused", reason=reason, error={})


def fixed():
    return [
        times("eager", "1x8", 20.0, {"bertrt": [0.4, 0.3, 0.5]}),
        times("bertrt", "1x8", 8.0, {"eager": [2.5, 2.4, 2.61]}),
        times("eager", "32x128", 12_345.0, {"bertrt": [0.5, 0.4, 0.6]}),
        times("bertrt", "32x128", 4_567.0, {"eager": [2.7, 2.6, 2.8]}),
        times("sdpa", "1x8", 10.0, {"eager": [2.0, 1.9, 2.1]}),
        refusal("sdpa", "wrong answer at 32x128: the worst cosine is 0.2", "32x128"),
        refusal("optimum", "there is no .venv-optimum"),
    ]


def live():
    rows = []
    for load, p50 in ((0.9, 30.0), (0.5, 10.0)):
        for contender in ("eager", "bertrt_live"):
            entry = times(
                contender,
                f"{load:.0%} of capacity",
                p50,
                workload="live",
                load=load,
                rate=100 * load,
                p95_ms=2 * p50,
                p99_ms=3 * p50,
                throughput=99 * load,
                turned_away=2,
                capacity=50.0,
            )
            rows.append(entry)
    return rows


def memory():
    return [
        row("eager", "loaded", workload="memory", metric="mib", median=800.0, p20=790.0, p80=810.0),
        row(
            "bertrt",
            "loaded",
            workload="memory",
            metric="mib",
            median=99.5,
            p20=99.0,
            p80=101.0,
            speedup={"eager": [8.0, 7.9, 8.1]},
        ),
    ]


def cells(text, title):
    [line] = [line for line in text.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_table_has_the_time_ratio_and_error_of_each_contender():
    text = markdown(fixed())
    assert "A CPU (avx2), 2 cores, 2 threads" in text
    assert "### Fixed shapes (batch x sequence): minilm, embeddings (random weights)" in text
    assert cells(text, "") == ["1x8", "32x128", "error"]
    assert cells(text, "Eager") == ["20 ms", "12.3 s", "cos 0.999990"]
    assert cells(text, "**Bertrt**") == ["8 ms (2.50×)", "4567 ms (2.70×)", "cos 0.999990"]


def test_a_wrong_answer_has_a_reason_and_no_time():
    text = markdown(fixed())
    assert cells(text, "Sdpa")[:2] == ["10 ms (2.00×)", "–"]
    assert "- Sdpa at 32x128: wrong answer at 32x128: the worst cosine is 0.2" in text
    assert "- Optimum: there is no .venv-optimum" in text


def test_ratios_can_be_relative_to_another_contender():
    text = markdown(fixed(), against="bertrt")
    assert cells(text, "Eager")[:2] == ["20 ms (0.40×)", "12.3 s (0.50×)"]
    assert cells(text, "Sdpa")[0] == "10 ms"


def test_the_same_refusal_at_several_shapes_is_one_line():
    rows = [refusal("optimum", "gone", shape) for shape in ("1x8", "1x32")]
    assert not_timed(rows) == ["Optimum at 1x8, 1x32: gone"]
    assert "Optimum at 1x8, 1x32: gone" in markdown(rows)


def test_the_table_of_live_requests_is_grouped_by_load():
    text = markdown(live())
    lines = [line for line in text.splitlines() if "of capacity" in line]
    assert len(lines) == 4
    assert lines[1].startswith("| 90 texts/s (90% of capacity) | **Bertrt_Live** | 30 | 60 | 90 |")
    assert "| 2 of 7 |" in lines[0]


def test_curves_are_sorted_by_load():
    first, second = curves(live())
    assert (first.contender, second.contender) == ("eager", "bertrt_live")
    assert first.loads == [0.5, 0.9]
    assert first.numbers["p99_ms"] == [30.0, 90.0]
    assert first.numbers["throughput"] == pytest.approx([49.5, 89.1])


def test_bars_of_ratios_omit_rows_that_were_not_compared():
    rows = [*fixed()[:2], times("ort_plain", "1x8", 9.0)]
    eager, bertrt = bars_of_ratios(rows, "eager")
    assert (eager.value, eager.label) == (1.0, "1.0×  20 ms")
    assert (bertrt.value, bertrt.low, bertrt.high) == (2.5, 2.4, 2.61)
    assert bertrt.label == "2.5×  8 ms"


def test_bars_of_amounts_have_the_unit():
    eager, bertrt = bars_of_amounts(memory())
    assert (eager.value, eager.low, eager.high) == (800.0, 790.0, 810.0)
    assert eager.label == "800 MiB"
    assert bertrt.label == "99.5 MiB"


@pytest.mark.parametrize(
    ("cosine", "shown"),
    [
        (1.0000001, "cos 1.000000"),
        (0.99999999, "cos 1.000000"),
        (0.99998, "cos 0.999980"),
        (0.99986, "cos 0.9998"),
        (0.9999, "cos 0.9999"),
        (0.9311, "cos 0.9311"),
        (-0.25, "cos -0.2500"),
    ],
)
def test_a_cosine_is_never_rounded_up(cosine, shown):
    assert error_text(row("eager", error={**ERROR, "worst_cosine": cosine})) == shown


def test_errors_of_logits_and_the_worst_of_several_rows():
    first = row("eager", task="classification", error={**ERROR, "max_abs": 0.034})
    second = row("eager", task="classification", error={**ERROR, "argmax_agreement": 0.9999})
    assert error_text(first) == "±0.03, same 100 %"
    assert worst_error([first, second]) == "±0.03, same 99.9 %"
    assert worst_error([refusal("eager", "gone")]) == ""


def test_the_command_prints_tables_and_reports_errors(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    append(path, fixed())
    assert main([str(path), "--markdown"]) == 0
    assert "| **Bertrt** |" in capsys.readouterr().out
    assert main([str(path), "--markdown", "--run", "never"]) == 1
    assert "no run 'never'" in capsys.readouterr().err
    assert main([str(tmp_path / "absent"), "--markdown"]) == 1
    with pytest.raises(SystemExit):
        main([str(path)])


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="matplotlib is missing")
def test_the_plots_are_written(tmp_path):
    path = tmp_path / "results.jsonl"
    append(path, [*fixed(), *live(), *memory()])
    assert main([str(path), "--plots", str(tmp_path / "plots")]) == 0
    names = [path.name for path in sorted((tmp_path / "plots").iterdir())]
    assert names == [f"{kind}-minilm-embeddings.png" for kind in ("fixed", "live", "memory")]


def test_ratios_on_a_gpu_are_relative_to_eager_on_the_gpu():
    rows = [
        times("cuda_eager", "1x128", 8.0, {"bertrt_cuda": [0.25, 0.2, 0.3]}),
        times("bertrt_cuda", "1x128", 2.0, {"cuda_eager": [4.0, 3.9, 4.1]}, precision="float16"),
    ]
    for entry in rows:
        entry["machine"] |= {"gpu": "NVIDIA X", "driver": "1.2", "gpu_memory_gib": 80.0}
    text = markdown(rows)
    assert "NVIDIA X (driver 1.2)" in text
    assert "| **Bertrt_Cuda** | 2 ms (4.00×) |" in text
    assert "| Cuda_Eager | 8 ms |" in text


def test_batches_on_a_gpu_also_have_texts_per_second():
    rows = [
        times("cuda_eager", "32x128", 8.0),
        times("bertrt_cuda", "32x128", 2.0, {"cuda_eager": [4.0, 3.9, 4.1]}),
    ]
    assert "texts/s" not in markdown(rows)
    for entry in rows:
        entry["machine"] |= {"gpu": "NVIDIA X", "driver": "1.2", "gpu_memory_gib": 80.0}
    text = markdown(rows)
    assert "| Cuda_Eager | 8 ms, 4000 texts/s |" in text
    assert "| **Bertrt_Cuda** | 2 ms, 16000 texts/s (4.00×) |" in text
