"""Channel pruning: which channels, their removal, and the repair of what is left."""
