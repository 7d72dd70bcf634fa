"""What a graph is: types, operators, graphs. Importing it loads neither torch nor a compiler."""

from . import ops
from .errors import TersorError, UnsupportedError, VerifyError
from .graph import Graph
from .op import OPS, Const, Field, Loc, Op, Value
from .types import BitsAffine, Elem, Layout, Tensor, Uniform

__all__ = [
    "OPS",
    "BitsAffine",
    "Const",
    "Elem",
    "Field",
    "Graph",
    "Layout",
    "Loc",
    "Op",
    "Tensor",
    "TersorError",
    "Uniform",
    "UnsupportedError",
    "Value",
    "VerifyError",
    "ops",
]
