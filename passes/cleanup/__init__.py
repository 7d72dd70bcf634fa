"""Passes that leave fewer or simpler operators: constants, common subexpressions, identities."""
