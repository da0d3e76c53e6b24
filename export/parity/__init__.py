"""The parity gate: a graph is exported only if it gives the checkpoint's own answers."""
