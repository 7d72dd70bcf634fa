"""Convolutions of stored integers on maps in blocks of 16 channels."""
