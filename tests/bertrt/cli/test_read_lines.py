"""Reading the lines of a pipe in groups."""

import io

from bertrt.cli.read_lines import read_line_groups


def test_read_line_groups() -> None:
    class Pipe(io.BytesIO):
        """Returns what one write wrote at each read, as a pipe does."""

        def read1(self, size: int | None = -1, /) -> bytes:
            return next(writes, b"")

    writes = iter([b"a\nb", b"c", b"\r\n\n", b"\x0b\x85\n" * 514, b"end"])
    groups = list(read_line_groups(Pipe()))
    assert groups[:2] == [[b"a"], [b"bc", b""]]
    assert [len(group) for group in groups[2:]] == [256, 256, 2, 1]
    assert groups[-1] == [b"end"]
    assert list(read_line_groups(io.BytesIO(b""))) == []
    assert list(read_line_groups(io.BytesIO(b"\n"))) == [[b""]]
