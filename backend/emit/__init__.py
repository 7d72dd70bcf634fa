"""Emit a planned graph as one TVM module: a function for each distinct kernel, and host functions that call them."""
