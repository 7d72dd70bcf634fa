"""Kernel templates for CPUs: x86-64 and 64-bit ARM, by vectors of `Target.lanes` elements."""
