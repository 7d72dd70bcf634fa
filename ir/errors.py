"""The one family of errors that Tersor raises for a mistake of the user's."""

from __future__ import annotations


class TersorError(ValueError):
    """Something the user can mend: says what was expected, what came, where, and what is valid."""


class VerifyError(TersorError):
    """A graph breaks a rule of the IR."""


class UnsupportedError(TersorError):
    """A valid model uses something that Tersor does not have."""
