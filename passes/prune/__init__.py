"""Channel pruning: the choice of channels, their removal, and the refit of the layers that are left."""
