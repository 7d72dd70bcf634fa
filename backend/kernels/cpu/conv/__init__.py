"""Convolutions, and chains of them in one kernel."""
