"""Multiply-accumulate instructions of register tiles, one module for each number format."""
