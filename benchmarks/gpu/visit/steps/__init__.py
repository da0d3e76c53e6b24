"""The steps of a visit: one module each, with a function `run(visit)`."""
