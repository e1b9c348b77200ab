"""PyTorch networks become ONNX files that describe themselves: the only package that uses torch."""
