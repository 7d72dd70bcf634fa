"""Remember which code each kernel became, so that a second compile of a network finds kernels in the kernel cache without emitting them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from ..codegen.calls import symbol_of

#: Kernels whose symbols a process remembers.
MOST = 4096

_known: OrderedDict[Hashable, tuple[str, int | None]] = OrderedDict()


@dataclass(frozen=True)
class Recalled:
    """A callee that was emitted before. emit: emits it again; attrs: those of its function that hold its symbol."""

    attrs: dict[str, str]
    emit: Callable[[], Any]


def recall(key: Hashable, emit: Callable[[], tuple[Any, int | None]]) -> tuple[Any, int | None]:
    """A callee and its number of phases: from `emit`, or if the key is known, a `Recalled`.

    key: equal for fusions that become the same code in this process. It includes the classes of operators and the template, since a notebook
    may define them again under the same names.
    """
    if key in _known:
        _known.move_to_end(key)
        symbol, phases = _known[key]
        return Recalled({"global_symbol": symbol}, lambda: emit()[0]), phases
    function, phases = emit()
    _known[key] = symbol_of(function), phases
    if len(_known) > MOST:
        _known.popitem(last=False)
    return function, phases


def function_of(callee: Any) -> Any:
    """The TensorIR function, emitted now if it was recalled. Callers refer to its symbol already, so it must become the same code."""
    if not isinstance(callee, Recalled):
        return callee
    function = callee.emit()
    if symbol_of(function) != symbol_of(callee):
        raise RuntimeError(f"{symbol_of(callee)} became other code when it was emitted again: something changed that no key tells")
    return function
