"""Kernel templates for CPUs: x86-64 and 64-bit ARM, with vectors of `Target.lanes` elements."""
