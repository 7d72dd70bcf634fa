"""The errors that Tersor raises for mistakes of the user, all of one base class."""

from __future__ import annotations


class TersorError(ValueError):
    """A mistake that the user can correct; the message says what was expected, what came, where, and what is valid."""


class VerifyError(TersorError):
    """A graph breaks a rule of the IR."""


class UnsupportedError(TersorError):
    """A valid model uses something that Tersor does not support."""
