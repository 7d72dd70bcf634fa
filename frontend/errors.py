"""What stops a converter, and what the walk that called it makes of it."""

from __future__ import annotations

from ..ir.errors import UnsupportedError


class FormError(UnsupportedError):
    """A converter does not have this form of its operator; the walk goes on and names all such calls at its end."""


class StaticBatchNeeded(Exception):
    """The model uses its batch size in a way that only a fixed batch can express; the import starts again with one."""
