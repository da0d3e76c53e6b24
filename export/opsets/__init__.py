"""Write graphs in the operators of older ONNX opsets."""
