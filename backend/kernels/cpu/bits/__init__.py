"""Kernels on packed bits: packing of feature maps into words, convolutions by xor and population counts, and weights of few levels on floats."""
