"""Kernels on packed bits: what packs maps into words, convolutions by xor and population counts, and weights of few levels on floats."""
