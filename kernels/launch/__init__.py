"""How each kernel is launched: its block sizes, by GPU and by the sizes of its inputs."""
