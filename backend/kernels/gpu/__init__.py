"""Templates for GPUs, OpenCL and CUDA alike: plain (N, C, H, W) maps, a thread for each element or a tile of them."""
