"""Graph rewrites, one fusion a file; `bertrt.export.pipelines` lists those of each target."""
