"""Graph rewrites, one fusion a file; `bertrt.export.fusion.pipeline` has the list for each target."""
