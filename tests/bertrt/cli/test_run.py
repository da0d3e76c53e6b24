"""`bertrt run`: the runtime's answers, one for each text, also with errors among them."""

import contextlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
BERTRT = [sys.executable, "-P", "-m", "bertrt"]


@pytest.fixture
def fill_mask(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertForMaskedLM")


@pytest.mark.parametrize(
    ("class_name", "line", "input", "options"),
    [
        ("BertForMaskedLM", "the [MASK] sat", "the [MASK] sat", {}),
        ("BertForMaskedLM", "a [MASK]", "a [MASK]", {"top_k": 2, "targets": ["cat", "dog"]}),
        ("BertForMaskedLM", '{"text": "a [MASK]"}', {"text": "a [MASK]"}, {}),
        ("BertForMaskedLM", "a {b} [MASK] {", "a {b} [MASK] {", {}),
        ("BertForSequenceClassification", "good film", "good film", {"top_k": None}),
        (
            "BertForSequenceClassification",
            '{"text": "a", "text_pair": "b"}',
            {"text": "a", "text_pair": "b"},
            {"function_to_apply": "sigmoid"},
        ),
        ("BertForSequenceClassification", "a", "a", {"candidate_labels": "sports,politics"}),
        ("BertForTokenClassification", "john in paris", "john in paris", {}),
        (
            "BertForTokenClassification",
            "john in paris",
            "john in paris",
            {"aggregation_strategy": "simple"},
        ),
        (
            "BertForQuestionAnswering",
            '{"question": "who?", "context": "john in paris"}',
            {"question": "who?", "context": "john in paris"},
            {"top_k": 2},
        ),
        ("BertModel", "the cat", "the cat", {}),
        (
            "BertForNextSentencePrediction",
            '{"text": "a", "text_pair": "b"}',
            {"text": "a", "text_pair": "b"},
            {},
        ),
        (
            "BertForMultipleChoice",
            '{"prompt": "the cat", "choices": ["a", "b"]}',
            {"prompt": "the cat", "choices": ["a", "b"]},
            {},
        ),
        ("BertForMultipleChoice", "the cat", "the cat", {"choices": ["a", "b"]}),
        ("BertForPreTraining", "the [MASK]", "the [MASK]", {}),
        ("BertLMHeadModel", "the cat", "the cat", {"max_new_tokens": 3, "do_sample": False}),
    ],
)
def test_answers_equal_those_of_the_runtime(
    bertrt_command: Command,
    make_artifact: Callable[..., Path],
    load_artifact: Callable[..., Any],
    class_name: str,
    line: str,
    input: Any,
    options: dict[str, Any],
) -> None:
    path = make_artifact(class_name)
    flags = [
        flag
        for name, value in options.items()
        for flag in ("-o", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    ]
    expected = load_artifact(class_name)([input], **options)
    done = bertrt_command("run", path, "--json", *flags, line)
    assert (done.status, done.err) == (0, "")
    assert [json.loads(line) for line in done.out.splitlines()] == expected

    streamed = bertrt_command("run", path, "--json", *flags, stdin=f"{line}\n".encode())
    assert streamed == done

    shown = bertrt_command("run", path, *flags, line)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.strip()


def test_a_pipe_in_the_shell(fill_mask: Path) -> None:
    script = Path(sys.executable).parent / "bertrt"
    text = "Plants create [MASK] through a process known as photosynthesis."
    done = subprocess.run(
        ["bash", "-c", f"echo -e {text!r} | {script} run {fill_mask}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 5
    assert "through a process known as photosynthesis." in done.stdout


def test_another_task_over_the_same_graph(
    bertrt_command: Command, make_artifact: Callable[..., Path]
) -> None:
    path = make_artifact("BertForSequenceClassification")
    task = ["--task", "zero-shot-classification", "-o", "candidate_labels=art, sports"]
    done = bertrt_command("run", path, *task, "a film")
    assert done.status == 0
    assert {line.split()[1] for line in done.out.splitlines()} == {"art", "sports"}
    refused = bertrt_command("run", path, "--task", "fill-mask", "a film")
    assert refused.status == 1
    assert "'fill-mask'" in refused.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("DIR", "a [MASK]", "-b [MASK]", "--json"),
        ("--json", "DIR", "a [MASK]", "-b [MASK]"),
        ("DIR", "a [MASK]", "--json", "-b [MASK]"),
        ("DIR", "--json", "a [MASK]", "-b [MASK]"),
        ("DIR", "a [MASK]", "--json", "--", "-b [MASK]"),
        ("DIR", "--json", "a [MASK]", "--", "-b [MASK]"),
        ("--json", "--", "DIR", "a [MASK]", "-b [MASK]"),
    ],
)
def test_options_before_between_and_after_texts(
    bertrt_command: Command, fill_mask: Path, arguments: tuple[str, ...]
) -> None:
    texts = [str(fill_mask) if text == "DIR" else text for text in arguments]
    if "--" not in texts:
        texts = [text.removeprefix("-") if "MASK" in text else text for text in texts]
    done = bertrt_command("run", *texts)
    assert (done.status, done.err) == (0, "")
    first, second = (json.loads(line)[0]["sequence"] for line in done.out.splitlines())
    assert first.startswith("a")
    assert second.startswith("- b" if "--" in texts else "b")


def test_threads(bertrt_command: Command, fill_mask: Path) -> None:
    assert bertrt_command("run", fill_mask, "--threads", "1", "a [MASK]").status == 0
    assert bertrt_command("run", fill_mask, "--threads", "auto", "a [MASK]").status == 0


def test_invalid_lines_do_not_stop_the_others(bertrt_command: Command, fill_mask: Path) -> None:
    lines = [
        b"the [MASK]",
        b"no mask",
        b"\xff\xfe [MASK]",
        b'{"text": "a [MASK]"}\r',
        b'{"foo": 1}',
        b"",
        b'{"text": "\\ud800 [MASK]"}',
        b'{"x": ' + b"[" * 5000,
        "é [MASK]\u2028中国".encode(),
    ]
    done = bertrt_command("run", fill_mask, "--json", "-o", "top_k=1", stdin=b"\n".join(lines))
    documents = [json.loads(line) for line in done.out.split("\n")[:-1]]
    failed = [i for i, document in enumerate(documents, start=1) if "error" in document]
    assert len(documents) == len(lines)
    assert failed == [2, 3, 5, 6, 7, 8]
    assert done.status == 1
    errors = done.err.splitlines()
    assert [int(line.split()[3].rstrip(":")) for line in errors] == failed
    assert all(line.startswith("bertrt: error: line ") for line in errors)
    assert "not UTF-8" in errors[1]

    shown = bertrt_command("run", fill_mask, "-o", "top_k=1", stdin=b"\n".join(lines))
    assert shown.status == 1
    assert len(shown.out.splitlines()) == 3
    assert shown.err == done.err


def test_the_error_of_a_text_has_its_number(bertrt_command: Command, fill_mask: Path) -> None:
    done = bertrt_command("run", fill_mask, "a [MASK]", "b")
    assert done.status == 1
    assert done.err == "bertrt: error: text 2: the text has no [MASK]: 'b'\n"
    assert len(done.out.splitlines()) == 5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("topk=3", "did you mean top_k?"),
        ("top_k=0", "top_k is 0"),
        ("top_k=NaN", "top_k is 'NaN'"),
        ("top_k=", "top_k is ''"),
        ("top_k=null", "top_k is null: give"),
        ("targets=[true]", "targets holds true: give strings"),
        ('targets={"a": 1}', 'targets is {"a": 1}'),
    ],
)
def test_an_invalid_option_is_a_single_error(
    bertrt_command: Command, fill_mask: Path, option: str, message: str
) -> None:
    done = bertrt_command("run", fill_mask, "-o", option, stdin=b"a [MASK]\nb [MASK]\n")
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_json_of_another_form(bertrt_command: Command, make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForTokenClassification")
    lines = b'{"text": "john in paris"}\njohn in paris\n{"label": 1}\n["john"]\n"john"\n'
    done = bertrt_command("run", path, "--json", stdin=lines)
    first, second, *others, last = map(json.loads, done.out.splitlines())
    assert first == second
    form = 'a line for token-classification is a text or {"text": "A"}'
    assert [form in other["error"] for other in others] == [True, True]
    assert isinstance(last, list)
    errors = done.err.splitlines()
    assert [line.split(": ")[2] for line in errors[:2]] == ["line 3", "line 4"]
    assert errors[2:] == [f"bertrt: line 5 is JSON, and is taken as text as it stands: {form}"]

    words = bertrt_command(
        "run", path, "--json", "-o", "is_split_into_words=true", '["john", "in"]', '["paris"]'
    )
    assert (words.status, words.err) == (0, "")
    assert len(words.out.splitlines()) == 2


def test_texts_that_may_be_meant_as_json_are_noted_once(
    bertrt_command: Command, make_artifact: Callable[..., Path]
) -> None:
    path = make_artifact("BertForTokenClassification")
    lines = b'john\n[1]\nnull\n42\n{bad\n{"text": "john\n' + b"the cat\n" * 300 + b"7\n{\n"
    done = bertrt_command("run", path, "--json", stdin=lines)
    assert done.status == 0
    assert len(done.out.splitlines()) == lines.count(b"\n")
    form = 'a line for token-classification is a text or {"text": "A"}'
    assert done.err.splitlines() == [
        f"bertrt: line 2 is JSON, and is taken as text as it stands: {form}",
        f"bertrt: line 5 looks like JSON, but is none, and is taken as text: {form}",
    ]


@pytest.mark.parametrize(
    ("class_name", "line", "flags", "advice"),
    [
        ("BertForMaskedLM", "the [MASK] " * 40, [], "-o truncation=true"),
        (
            "BertForSequenceClassification",
            json.dumps({"text": "the cat " * 40, "text_pair": "a"}),
            [],
            "-o truncation=longest_first",
        ),
        (
            "BertForSequenceClassification",
            "the cat " * 40,
            ["-o", "candidate_labels=art,sports"],
            "-o truncation=only_first",
        ),
        (
            "BertForSequenceClassification",
            "the cat",
            ["--task", "zero-shot-classification"],
            "-o candidate_labels=sports,politics",
        ),
        (
            "BertForMultipleChoice",
            json.dumps({"prompt": "the cat " * 40, "choices": ["a"]}),
            [],
            "-o truncation=only_first",
        ),
    ],
)
def test_advice_is_in_the_terms_of_the_command_line(
    bertrt_command: Command,
    make_artifact: Callable[..., Path],
    class_name: str,
    line: str,
    flags: list[str],
    advice: str,
) -> None:
    path = make_artifact(class_name)
    done = bertrt_command("run", path, *flags, line)
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith(f" {advice}\n")
    # What it says helps.
    assert bertrt_command("run", path, *flags, *advice.split(), line).status == 0


def test_a_flag_is_spelled_as_in_json(bertrt_command: Command, fill_mask: Path) -> None:
    done = bertrt_command("run", fill_mask, "-o", "truncation=null", "a [MASK]")
    assert "truncation is null: use true, false or longest_first, only_first" in done.err


def test_options_inside_a_line(bertrt_command: Command, make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForSequenceClassification")
    line = json.dumps({"text": "the cat", "candidate_labels": ["art", "sports"]})
    for flags in ([], ["--task", "zero-shot-classification", "-o", "candidate_labels=a"]):
        done = bertrt_command("run", path, *flags, line)
        assert (done.status, done.out) == (1, "")
        assert done.err.endswith(
            """; for all lines, pass -o 'candidate_labels=["art", "sports"]'\n"""
        )


def test_advice_on_options(bertrt_command: Command, make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertLMHeadModel")
    flags = ["-o", "num_return_sequences=2", "-o", "do_sample=false"]
    done = bertrt_command("run", path, *flags, "the cat")
    assert done.err.endswith("would be the same: pass -o do_sample=true\n")


@pytest.mark.parametrize(
    ("flags", "hint"),
    [(["--top-k", "3"], "-o top_k=VALUE"), (["--top-k=3"], "-o top_k=3")],
)
def test_an_option_of_the_task_given_like_one_of_the_command(
    fill_mask: Path, capsys: pytest.CaptureFixture[str], flags: list[str], hint: str
) -> None:
    from bertrt.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["run", str(fill_mask), "a [MASK]", *flags])
    assert caught.value.code == 2
    assert hint in capsys.readouterr().err


def test_no_text(bertrt_command: Command, fill_mask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = bertrt_command("run", fill_mask)
    assert (done.status, done.out) == (1, "")
    assert "there is no text" in done.err
    from bertrt.cli import main

    monkeypatch.setattr(sys, "stdin", None)
    assert main(["run", str(fill_mask)]) == 1


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_instructions(
    fill_mask: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bertrt.cli import main

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(b"a [MASK]\n")))
    assert main(["run", str(fill_mask)]) == 0
    assert "Ctrl-D" in capsys.readouterr().err


def start(path: Path) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    command = [*BERTRT, "run", str(path), "-o", "top_k=1"]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


def test_answers_are_printed_before_the_end_of_input(fill_mask: Path) -> None:
    process = start(fill_mask)
    assert process.stdin is not None
    assert process.stdout is not None
    for word in (b"cat", b"dog"):
        process.stdin.write(word + b" [MASK]\n")
        process.stdin.flush()
        assert word in process.stdout.readline()
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0


def test_interrupted(fill_mask: Path) -> None:
    process = start(fill_mask)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"cat [MASK]\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 130


def test_a_closed_pipe(fill_mask: Path) -> None:
    command = " ".join(BERTRT)
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"yes 'the [MASK]' | {command} run {fill_mask} | head -1; echo ${{PIPESTATUS[1]}}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "141"


def test_output_is_utf_8_in_any_locale(fill_mask: Path) -> None:
    done = subprocess.run(
        [*BERTRT, "run", str(fill_mask), "--json"],
        input="中国 [MASK]\n".encode(),
        env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    assert "中" in json.loads(done.stdout.decode())[0]["sequence"]


def test_a_counter_is_shown_unless_answers_go_to_the_terminal(
    bertrt_command: Command, fill_mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter is cleared before errors are printed, and at the end."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from bertrt.cli import run
    from bertrt.progress import ProgressCallback

    shown: list[str] = []

    @contextlib.contextmanager
    def progress_bar() -> Iterator[ProgressCallback]:
        yield lambda done, total, what: shown.append(what)

    monkeypatch.setattr(run, "progress_bar", progress_bar)
    lines = b"the [MASK]\n" * 300
    assert bertrt_command("run", fill_mask, "--no-allow-spinning", stdin=lines).status == 0
    assert shown == ["", "256 lines", "", "300 lines"]
    shown.clear()
    monkeypatch.setattr(sys, "stdout", Terminal())
    with run._text_counter() as report:
        report(0, None, "not shown beside the answers")
    assert shown == []
