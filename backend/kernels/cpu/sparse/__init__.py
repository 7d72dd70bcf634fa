"""Kernels that skip weights that are zero."""
