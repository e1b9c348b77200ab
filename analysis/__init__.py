"""Reads an ONNX graph and computes facts about it; knows no framework and no server."""
