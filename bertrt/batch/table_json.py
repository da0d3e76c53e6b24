"""The rows of a table as JSON lines.

pyarrow writes the numbers, for which Python takes as long as a small model takes for the text.
"""

import json
from collections.abc import Iterator
from typing import Any

from bertrt.batch.arrow import import_arrow

__all__ = ["json_lines"]

# The column whose strings are JSON already.
_JSON = "answer"


def json_lines(table: Any) -> Iterator[str]:
    """Yield a JSON object, with a line end, for each row of a table.

    A float has the fewest digits that give it back.
    """
    columns = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        values = column if name == _JSON else _to_json(column)
        key = json.dumps(name, ensure_ascii=False)
        columns.append([f"{key}: {value or 'null'}" for value in values.to_pylist()])
    for row in zip(*columns, strict=True):
        yield f"{{{', '.join(row)}}}\n"


def _to_json(values: Any) -> Any:
    """Return an array's values as an array of JSON texts; null stays null."""
    arrow = import_arrow()
    types, compute = arrow.types, arrow.compute
    if types.is_fixed_size_list(values.type):
        values = values.cast(arrow.list_(values.type.value_type))
    if types.is_list(values.type):
        parts = arrow.ListArray.from_arrays(
            values.offsets, _to_json(values.values), mask=values.is_null()
        )
        joined = compute.binary_join(parts, ", ")
        return compute.binary_join_element_wise("[", joined, "]", "")
    if types.is_integer(values.type) or types.is_floating(values.type):
        return values.cast(arrow.string())
    texts = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values.to_pylist()]
    return arrow.array(texts, arrow.string())
