"""Importing ONNX Runtime: telemetry is off unless the user asks for it, and one wheel is there."""

import subprocess
import sys

import pytest

import bertrt.engines.ort
from bertrt.errors import DeviceError


def run_python(code: str) -> str:
    command = [sys.executable, "-P", "-W", "error::ImportWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_telemetry_is_off_before_the_import() -> None:
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
    assert run_python(code) == "1"


def test_the_users_telemetry_setting_is_kept() -> None:
    code = (
        "import os\n"
        "os.environ['ORT_DISABLE_TELEMETRY'] = '0'\n"
        "from bertrt.engines.ort import onnxruntime, telemetry_disabled\n"
        "onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], telemetry_disabled())"
    )
    assert run_python(code) == "0 False"


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ((), "pip install 'bertrt"),
        (("onnxruntime", "onnxruntime-gpu"), "uninstall both"),
    ],
)
def test_no_wheel_and_two_wheels_are_errors(
    installed: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bertrt.engines.ort, "wheels", lambda: dict.fromkeys(installed, "1.0"))
    if not installed:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=message):
        bertrt.engines.ort.onnxruntime.__wrapped__()
