"""torch.nn.Module -> Graph, by torch.export."""
