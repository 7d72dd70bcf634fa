"""Databases of measured kernel choices: their format, their keys, and those that ship with Tersor."""
