"""TensorIR functions that call each other by symbol, so that each can be compiled separately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx as t
from tvm_ffi import structural_hash

#: Prefix of the symbols of callees; host functions of a model have other names.
CALLEE = "tersor_"


def callee(function: Any) -> Any:
    """A function that others can call: its arguments are passed as they are, and its symbol is a hash of its code.

    Equal functions have equal symbols, in every model.
    """
    return function.with_attr("global_symbol", f"{CALLEE}{code_hash(function)}").with_attr("calling_conv", 1)


def symbol_of(function: Any) -> str:
    """The name of a `callee` or host function in compiled code."""
    return str(function.attrs["global_symbol"])


def call(symbol: str, arguments: Sequence[Any]) -> Any:
    """The call of a callee, which returns an int32."""
    return t.Evaluate(t.call_extern("int32", symbol, *arguments))


def code_hash(function: Any) -> str:
    """A 64-bit hash of a function's code; names of variables do not count."""
    return f"{structural_hash(function) & (1 << 64) - 1:016x}"
