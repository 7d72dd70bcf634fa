"""Exceptions that a converter raises, and what the import does about them."""

from __future__ import annotations

from ..ir.errors import UnsupportedError


class FormError(UnsupportedError):
    """A converter does not support this form of its operator; the import goes on and reports all such calls at its end."""


class StaticBatchNeeded(Exception):
    """The model uses its batch size in a way that only a fixed batch can express; the import starts again with one."""
