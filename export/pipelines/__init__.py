"""The fusions of each target, in order, and how many of each operator they must leave."""
