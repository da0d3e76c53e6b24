"""What an import brings into the process: never PyTorch for the runtime, and no harm to others."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "onnx", "onnxscript", "triton", "huggingface_hub", "safetensors")


def python(code: str, *args: str, cwd: Path = ROOT, safe: bool = True) -> str:
    """Run code in a new interpreter; `safe` keeps the working directory off its path."""
    flags = ["-P"] if safe else []
    command = [sys.executable, *flags, "-W", "error::ImportWarning", "-c", code, *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHOW_HEAVY = f"print(*[m for m in {HEAVY!r} if m in sys.modules])"


def test_import_is_light() -> None:
    assert python(f"import sys, bertrt; {SHOW_HEAVY}") == ""
    assert python("import sys, bertrt; print('onnxruntime' in sys.modules)") == "False"


@pytest.mark.parametrize("room", ["bertrt.export", "bertrt.kernels"])
def test_rooms_are_inert(room: str) -> None:
    assert python(f"import sys, {room}; {SHOW_HEAVY}") == ""


def test_answering_needs_no_torch(make_artifact: object) -> None:
    path = make_artifact("BertForMaskedLM")  # type: ignore[operator]
    code = (
        "import sys, bertrt\n"
        "with bertrt.load(sys.argv[1]) as rt:\n"
        "    assert len(rt('the cat [MASK] on the mat')) == 5\n"
        f"{SHOW_HEAVY}"
    )
    assert python(code, str(path)) == ""


def test_every_module_of_the_runtime_is_light() -> None:
    rooms = ("export", "kernels")  # links to the folders of these names
    files = [path.relative_to(ROOT) for path in (ROOT / "bertrt").rglob("*.py")]
    names = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in files
        if path.parts[1] not in rooms and path.name != "__main__.py"
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n{SHOW_HEAVY}"
    )
    assert len(names) > 50
    assert python(code) == ""


def test_export_is_one_name_however_it_is_reached() -> None:
    code = (
        "from bertrt.export import export as first\n"
        "import bertrt.export.exporter\n"
        "from bertrt.export import export as second\n"
        "assert first is second is bertrt.export.exporter.export"
    )
    python(code)


def test_transformers_is_unharmed_from_the_repository_root() -> None:
    # With the root on sys.path our folder is found as `kernels`, a name that transformers probes.
    code = "import kernels, export; assert 'torch' not in __import__('sys').modules; "
    python(code + "from transformers import BertModel", safe=False)


def test_no_stranger_at_the_top_level(tmp_path: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        f"for name in ('kernels', 'export', 'tests', 'benchmarks'):\n"
        f"    spec = find_spec(name)\n"
        f"    assert spec is None or {str(ROOT)!r} not in str(spec.origin), name"
    )
    python(code, cwd=tmp_path)


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    code = (
        "import os, sys\n"
        "os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
        "seen = []\n"
        "class Spy:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            seen.append(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Spy())\n"
        "from bertrt.engines.ort import onnxruntime\n"
        "onnxruntime()\n"
        "print(*seen)"
    )
    assert python(code) == "1"


def test_telemetry_is_the_users_choice() -> None:
    code = (
        "import os\n"
        "os.environ['ORT_DISABLE_TELEMETRY'] = '0'\n"
        "from bertrt.engines.ort import onnxruntime, telemetry_disabled\n"
        "onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], telemetry_disabled())"
    )
    assert python(code) == "0 False"


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ((), "pip install 'bertrt"),
        (("onnxruntime", "onnxruntime-gpu"), "uninstall both"),
    ],
)
def test_the_wheels_of_onnxruntime(
    installed: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bertrt.engines.ort
    from bertrt.errors import DeviceError

    monkeypatch.setattr(bertrt.engines.ort, "wheels", lambda: dict.fromkeys(installed, "1.0"))
    if not installed:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=message):
        bertrt.engines.ort.onnxruntime.__wrapped__()


def test_public_names() -> None:
    import bertrt

    assert list(bertrt.__all__) == sorted(bertrt.__all__)
    for name in bertrt.__all__:
        assert getattr(bertrt, name) is not None
    errors = [e for e in vars(bertrt).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert all(issubclass(error, bertrt.BertrtError) for error in errors)
