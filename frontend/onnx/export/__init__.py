"""ONNX export: `save_onnx` writes a graph as a standard ONNX model. Importing it does not import onnx."""
