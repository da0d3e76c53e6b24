"""A corpus embedded by bertrt on Spark, as docs/guides/batch.md has it.

Usage: spark_bertrt.py ARTIFACT THREADS INPUT OUTPUT
"""

import os
import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from bertrt.batch import TableAnswerer

ROWS = 1024


artifact, threads, source, output = sys.argv[1:]
answer = TableAnswerer(artifact, task="embed", column="text", id_column="id", threads=int(threads))


def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Answer the batches of a partition."""
    for batch in batches:
        answers = answer(pa.Table.from_batches([batch]))
        vectors = answers["embedding"].cast(pa.list_(pa.float32()))
        yield from answers.set_column(1, "embedding", vectors).to_batches()


# Spark's workers would take the first Python of the PATH.
os.environ["PYSPARK_PYTHON"] = sys.executable
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.sql.execution.arrow.maxRecordsPerBatch", ROWS)
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
rows = spark.read.parquet(source)
schema = "id long, embedding array<float>, truncated boolean, error string"
rows.mapInArrow(embed, schema).write.parquet(output)
spark.stop()
