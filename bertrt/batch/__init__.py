"""Answer the rows of tables: with a class that other engines call, or with a job of one's own.

A job is `bertrt batch`. Tables are pyarrow's, which `bertrt[batch]` brings.
"""

from bertrt.batch.table_answerer import TableAnswerer

__all__ = ["TableAnswerer"]
