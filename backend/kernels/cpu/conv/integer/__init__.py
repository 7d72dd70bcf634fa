"""Convolutions of stored integers on feature maps in blocks of 16 channels."""
