"""How each kernel is launched: block sizes by GPU and by the sizes of its inputs."""
