"""Passes that make operators fewer or simpler: constant folding, common subexpressions, identities."""
