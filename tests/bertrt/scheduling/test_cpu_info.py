"""The processor's instruction sets, from /proc/cpuinfo, and what they mean for int8."""

from pathlib import Path

import pytest

from bertrt.scheduling.cpu_info import read_cpu_info

ZEN3 = "fpu sse4_2 avx f16c fma avx2 bmi2 sha_ni vaes"
SKYLAKE_X = "fpu avx avx2 avx512f avx512dq avx512cd avx512bw avx512vl"
ZEN5 = f"{SKYLAKE_X} avx_vnni avx512_vnni avx512_bf16"
ALDER_LAKE = "fpu avx avx2 avx_vnni"
SAPPHIRE_RAPIDS = f"{SKYLAKE_X} avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8"


def write_cpuinfo(root: Path, flags: str, name: str = "Some CPU @ 2.00GHz") -> Path:
    (root / "proc").mkdir()
    block = f"processor\t: 0\nmodel name\t: {name}\npower management:\nflags\t\t: {flags}\n\n"
    # A second kind of core, which must not be mixed with the first.
    (root / "proc/cpuinfo").write_text(block + "processor\t: 1\nflags\t\t: amx_int8 i8mm\n\n")
    return root


@pytest.mark.parametrize(
    ("flags", "sets", "without_vnni"),
    [
        (ZEN3, ("avx2",), True),
        (SKYLAKE_X, ("avx2", "avx512f"), True),
        (ZEN5, ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni"), False),
        (ALDER_LAKE, ("avx2", "avx_vnni"), False),
        (
            SAPPHIRE_RAPIDS,
            ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
            False,
        ),
        ("fpu sse2 avx512_vnni_of_another_name", (), True),
    ],
)
def test_instruction_sets(
    tmp_path: Path, flags: str, sets: tuple[str, ...], without_vnni: bool
) -> None:
    info = read_cpu_info(write_cpuinfo(tmp_path, flags), machine="x86_64")
    assert info.name == "Some CPU @ 2.00GHz"
    assert info.sets == sets
    assert info.int8.startswith("no VNNI: ") is without_vnni


def test_an_unknown_processor_has_no_instruction_sets(tmp_path: Path) -> None:
    info = read_cpu_info(tmp_path, machine="AMD64")
    assert (info.name, info.sets, info.int8[:8]) == ("AMD64", (), "no VNNI:")


def test_arm(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nFeatures : fp asimd asimddp\n\n")
    info = read_cpu_info(tmp_path, machine="aarch64")
    assert (info.name, info.sets, info.int8) == ("aarch64", (), "not an x86 processor")


def test_the_processor_of_this_machine_has_a_name() -> None:
    assert read_cpu_info().name
