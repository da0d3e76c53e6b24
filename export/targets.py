"""What an artifact can be made for: each device with its engines, and their dtypes."""

from dataclasses import dataclass, field

from bertrt.errors import ExportError

__all__ = ["DEVICES", "DTYPES", "ENGINES", "SESSION_LEVEL", "TARGETS", "Target", "choose_target"]


@dataclass(frozen=True)
class Target:
    """A device and an engine that runs graphs on it.

    `dtypes` are those that a graph can have, the usual one first. `session_level` is how far ONNX
    Runtime may optimize the graph itself, and `least` the first versions of what runs it.
    """

    device: str
    engine: str
    dtypes: tuple[str, ...]
    session_level: str = "disabled"
    least: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the fusions know the target by."""
        return self.device if self.device != "cuda" else f"{self.device}-{self.engine}"


# A device's usual engine stands before its others.
TARGETS = (
    Target("any", "ort", ("float32",), "all"),
    # Its convolutions are blocked by the last of the levels; what slows others down is left out by
    # `bertrt.session_options`.
    Target("cpu", "ort", ("float32", "int8"), "all"),
    Target(
        "cuda",
        "triton",
        ("float16", "bfloat16", "float32"),
        least={"torch": "2.8", "triton": "3.4"},
    ),
    Target("cuda", "ort", ("float16", "float32"), "all"),
)
DEVICES = tuple(dict.fromkeys(target.device for target in TARGETS))
ENGINES = tuple(dict.fromkeys(target.engine for target in TARGETS))
SESSION_LEVEL = {target.name: target.session_level for target in TARGETS}
DTYPES = tuple(dict.fromkeys(dtype for target in TARGETS for dtype in target.dtypes))


def choose_target(device: str, engine: str | None, dtype: str | None) -> tuple[Target, str]:
    """The target and the dtype that were asked for; None takes the device's usual one.

    Raises ExportError for a name that nothing has, and for an engine or a dtype that the device
    has not.
    """
    for kind, value, known in (
        ("device", device, DEVICES),
        ("engine", engine, (None, *ENGINES)),
        ("dtype", dtype, (None, *DTYPES)),
    ):
        if value not in known:
            choices = ", ".join(name for name in known if name is not None)
            raise ExportError(f"unknown {kind} {value!r}: choose one of {choices}")
    target = next(
        (one for one in TARGETS if one.device == device and engine in (None, one.engine)), None
    )
    if target is None:
        devices = {one.device for one in TARGETS if one.engine == engine}
        raise ExportError(
            f"the engine {engine!r} runs graphs for the device {_or(devices)}, not {device!r}"
        )
    if dtype is not None and dtype not in target.dtypes:
        places = {
            f"{one.device!r}" + (f" with the engine {one.engine!r}" if one.device == "cuda" else "")
            for one in TARGETS
            if dtype in one.dtypes
        }
        raise ExportError(
            f"{dtype} graphs are made for the device {' or '.join(sorted(places))}, not for "
            f"{device!r}" + (f" with the engine {target.engine!r}" if device == "cuda" else "")
        )
    return target, dtype or target.dtypes[0]


def _or(names: set[str]) -> str:
    return " or ".join(repr(name) for name in sorted(names))
