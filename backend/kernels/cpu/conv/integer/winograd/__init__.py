"""3x3 convolutions of stored integers by Winograd's minimal filtering, exact."""
