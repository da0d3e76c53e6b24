"""The Open Inference Protocol, version 2: requests, tensors, a model's signatures, answers."""
