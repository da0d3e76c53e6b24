"""Graph rewrites, one fusion a file; `bertrt.export.fusion.pipeline` lists each target's."""
