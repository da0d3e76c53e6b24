"""How a benchmark measures: worker processes, correctness checks, rounds, and result rows."""
