"""Runs models compiled for GPUs: kernels, weights and the arena lie on the device. Loads neither torch nor TVM."""
