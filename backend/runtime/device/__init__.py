"""Run models compiled for GPUs: kernels, weights and the arena are on the device. Loads neither torch nor TVM."""
