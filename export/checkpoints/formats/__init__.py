"""File formats of weights: PyTorch, safetensors, TensorFlow, Keras and Flax."""
