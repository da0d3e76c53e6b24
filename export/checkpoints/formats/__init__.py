"""Readers of weight files: safetensors, PyTorch, TensorFlow, Keras and Flax."""
