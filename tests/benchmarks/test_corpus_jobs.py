"""Jobs: what they used with everything that they start, and vectors in the order of the texts."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contenders.corpus_jobs import CorpusJob
from benchmarks.workloads.corpus import time_job

# CPU time is that of all children that end, so it is taken in a process that has no others.
_RUN = """
import sys
import benchmarks
from benchmarks.harness.job import run_job
try:
    used = run_job(sys.argv[1:], {"TOLD": "yes"})
    print(used.seconds, used.cpu_seconds)
except RuntimeError as error:
    print(error)
"""
_BURN = "import time\nwhile time.process_time() < 0.4: pass\n"
ROOT = Path(__file__).resolve().parents[2]


def run(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", _RUN, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.strip()


def job(body: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(body)]


def test_cpu_of_children_and_of_what_is_left_behind_counts(tmp_path: Path) -> None:
    burn = tmp_path / "burn.py"
    burn.write_text(_BURN)
    alone = float(run(sys.executable, str(burn)).split()[1])
    assert 0.4 <= alone < 2
    body = f"""
    import subprocess, sys
    subprocess.run([sys.executable, {str(burn)!r}], check=True)
    subprocess.Popen([sys.executable, {str(burn)!r}], start_new_session=True)
    """
    seconds, cpu = map(float, run(*job(body)).split())
    assert cpu >= 0.8
    assert seconds < cpu + 60


def test_a_job_that_fails_says_so() -> None:
    assert run(*job("raise SystemExit(3)")) == "the job ended with status 3"
    assert run(*job("import os; assert os.environ['TOLD'] == 'yes'")).count(" ") == 1


def test_what_stays_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    body = f"""
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                             start_new_session=True)
    open({str(note)!r}, "w").write(str(child.pid))
    """
    code = _RUN.replace("try:", "import benchmarks.harness.job as j; j._LINGER_SECONDS = 0.2\ntry:")
    subprocess.run([sys.executable, "-c", code, *job(body)], cwd=ROOT, check=True, timeout=120)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


_COPY = """
import sys
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
source, output, mode = sys.argv[1:]
table = pq.read_table(source)
ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
vectors = [[float(len(text)), float(id % 97)] for id, text in zip(ids, texts)]
order = np.random.default_rng(0).permutation(len(ids))
if mode == "lost":
    order = order[1:]
if mode == "twice":
    order = [*order[1:], order[2]]
pq.write_table(
    pa.table({"id": [ids[i] for i in order], "embedding": [vectors[i] for i in order]}), output
)
"""


@pytest.fixture
def copying(tmp_path: Path):
    script = tmp_path / "copy_job.py"
    script.write_text(_COPY)

    def make(mode: str) -> CorpusJob:
        return CorpusJob(
            lambda threads, source, output: [sys.executable, script, source, output, mode], 1
        )

    return make


def test_vectors_are_in_the_order_of_the_texts(copying) -> None:
    texts = ["x" * n for n in range(1, 3000)]
    used, vectors = copying("right").run_on(texts)
    np.testing.assert_array_equal(vectors, [[i + 1, i % 97] for i in range(2999)])
    assert used.seconds > 0
    assert used.cpu_seconds > 0


@pytest.mark.parametrize("mode", ["lost", "twice"])
def test_rows_that_are_lost_or_doubled_are_an_error(copying, mode: str) -> None:
    with pytest.raises(RuntimeError, match="of 9 rows the output has"):
        copying(mode).answer(["text"] * 9)


def test_a_wrong_vector_is_told(copying) -> None:
    texts = ["one", "three"] * 3
    right = np.array([[3.0, 0.0], [5.0, 1.0]])
    found = time_job(copying("right"), texts[:2], right)
    assert found["wrong"] is None
    assert "cosine" in time_job(copying("right"), texts, right[::-1])["wrong"]
