"""The `tile` dialect: blocked layouts, operators on them, fused operators, and the view of one that kernels read."""
