"""The `tile` dialect: blocked layouts, operators on them, fused operators, and the view of a fused operator that kernels use."""
