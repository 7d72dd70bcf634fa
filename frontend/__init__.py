"""Model importers: `trace` converts a torch.nn.Module to a graph; `converter` registers the converter of a torch operator."""

from typing import TYPE_CHECKING, Any

from .registry import converter

if TYPE_CHECKING:
    from .torch.trace import trace

__all__ = ["converter", "trace"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import; registering a converter does not need it
    if name == "trace":
        from .torch.trace import trace

        return trace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
