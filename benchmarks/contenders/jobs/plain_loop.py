"""A corpus embedded by bertrt in a plain loop: read a batch, embed it, write it.

Usage: plain_loop.py ARTIFACT THREADS INPUT OUTPUT
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq

import bertrt

ROWS = 1024

artifact, threads, source, output = sys.argv[1:]
with bertrt.load(artifact, threads=int(threads)) as rt:
    writer = None
    for batch in pq.ParquetFile(source).iter_batches(ROWS):
        vectors = rt.embed(batch["text"].to_pylist())
        values = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1])
        table = pa.table({"id": batch["id"], "embedding": values})
        writer = writer or pq.ParquetWriter(output, table.schema)
        writer.write_table(table)
    writer.close()
