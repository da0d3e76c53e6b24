"""The parity check: a graph is exported only if its answers match the checkpoint's."""
