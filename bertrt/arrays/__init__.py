"""Arrays on their way into the graph and out of it."""
