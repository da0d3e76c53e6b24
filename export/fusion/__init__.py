"""Graph rewrites, one fusion a file; `bertrt.export.pipelines.cpu` lists each target's."""
