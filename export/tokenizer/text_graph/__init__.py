"""Write a graph that takes text: the tokenizer is an operator in front of the model."""
