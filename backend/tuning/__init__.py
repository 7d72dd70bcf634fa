"""Tuning: measure kernel templates and their parameters on the device, and keep the fastest in a database that `compile` reads."""
