"""Templates for GPUs, OpenCL and CUDA alike: feature maps are plain (N, C, H, W); a thread computes an element or a tile of elements."""
