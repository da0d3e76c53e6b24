"""The fusions of each target, in order, and the operators that each graph must have after them."""
