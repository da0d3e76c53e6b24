"""A graph that takes text: the tokenizer as an operator in front of the model."""
