"""Passes that fold batch norms, scales, shifts and paddings into layers."""
