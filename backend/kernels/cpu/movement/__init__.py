"""Kernels of operators that only move elements."""
