"""`torch.compile(model, backend="tersor")`: trace and compile each graph that dynamo captures."""

from __future__ import annotations

import functools
import operator
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._dynamo import register_backend
from torch._subclasses.fake_tensor import FakeTensor

from .ir.errors import TersorError

if TYPE_CHECKING:
    from .backend.runtime.model import CompiledModel

    #: a model, and the results that are not tensors, by position
    _Entry = tuple[CompiledModel, dict[int, Any]]

#: Valid keys of `options=`: arguments of `tersor.compile`, and `pipeline`, passes that run before.
OPTIONS = ("target", "threads", "tuned", "winograd", "require", "pipeline")


def backend(
    module: nn.Module, example_inputs: Sequence[Any], *, mode: str | None = None, options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """Compile dynamo's fx module for inputs like the examples; returns a function of such inputs.

    options: arguments of `tersor.compile` by name, and `pipeline`: passes that run before.

    Parameters and buffers are constants of the compiled code; after one has changed, the graph is compiled again. Code that needs gradients
    runs eagerly, with a warning: call the model under `torch.no_grad()` or `torch.inference_mode()`. As always in dynamo, code at a graph break
    runs eagerly. Raises `TersorError` for operators that Tersor does not know, all of them at once, unless
    `torch._dynamo.config.suppress_errors` is set.

    Before each call dynamo checks every parameter and attribute of the model. torch leaves out most of these checks with
    `options={"guard_filter_fn": torch.compiler.skip_guard_on_inbuilt_nn_modules_unsafe}`; this backend checks by itself that parameters and
    buffers are the compiled ones, unchanged, but nobody sees then that a layer was replaced or went to training mode.
    """
    given = dict(options or {})
    if unknown := [k for k in given if k not in OPTIONS]:
        raise TersorError(f"unknown option {unknown[0]!r} of torch.compile(backend='tersor'); valid: {', '.join(OPTIONS)}")
    function = _Compiled(module, given)
    if not any(isinstance(x, FakeTensor | torch.SymInt) for x in example_inputs):
        function.prepare(example_inputs)
    return function


# torch registers the entry point of an installed Tersor itself, and refuses a name that it has already
if not entry_points(group="torch_dynamo_backends", name="tersor"):
    register_backend(backend, name="tersor")


#: How often a tensor was changed in place.
_version = operator.attrgetter("_version")


def _is_static(x: Any) -> bool:
    """Whether a tensor that dynamo passes belongs to the model: a parameter or a buffer."""
    return isinstance(x, nn.Parameter) or getattr(x, "_dynamo_static_input_type", None) is not None


class _Bound(nn.Module):
    """A module with some of its arguments bound, whose results are only tensors; other results are recorded while it is traced."""

    def __init__(self, module: nn.Module, bound: dict[int, Any], count: int, note: Callable[[Sequence[Any]], None]):
        super().__init__()
        self.module = module
        self.note = note
        self.count = count
        self.numbers = {i: x for i, x in bound.items() if not isinstance(x, torch.Tensor)}
        self.places = [i for i, x in bound.items() if isinstance(x, torch.Tensor)]
        for i in self.places:
            self.register_buffer(f"bound_{i}", bound[i].detach())

    def forward(self, *given: torch.Tensor) -> Any:
        rest = iter(given)
        held = self.numbers | {i: getattr(self, f"bound_{i}") for i in self.places}
        results = self.module(*(held[i] if i in held else next(rest) for i in range(self.count)))
        self.note(results)
        return tuple(y for y in results if isinstance(y, torch.Tensor))


class _Compiled:
    """The function that dynamo calls: one compiled model for each set of shapes."""

    def __init__(self, module: nn.Module, options: dict[str, Any]):
        self.module = module
        self.options = options
        #: positions of the model's own tensors, and of the others
        self.static: tuple[int, ...] | None = None
        self.given: tuple[int, ...] = ()
        #: parameters and buffers that the models hold, and how often those that count it were changed in place
        self.held: list[torch.Tensor] = []
        self.counting: list[torch.Tensor] = []
        self.versions: list[int] = []
        self.models: dict[tuple[Any, ...], _Entry | None] = {}
        self.lock = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in args):
            _warn_of_gradients()
            return self.module(*args)
        entry = self.prepare(args)
        if entry is None:
            return self.module(*args)
        model, others = entry
        results = model(*(x for x in map(args.__getitem__, self.given) if isinstance(x, torch.Tensor)))
        if not others:
            return results
        tensors = iter(results)
        return tuple(others[i] if i in others else next(tensors) for i in range(len(results) + len(others)))

    def prepare(self, args: Sequence[Any]) -> _Entry | None:
        """The model for these arguments; None where nothing is left to compile, or where torch is to run eagerly what Tersor cannot compile."""
        if self.static is None:
            self.static = tuple(i for i, x in enumerate(args) if _is_static(x))
            self.given = tuple(i for i in range(len(args)) if i not in self.static)
        with self.lock:
            held = list(map(args.__getitem__, self.static))
            if len(held) != len(self.held) or not all(map(operator.is_, held, self.held)) or list(map(_version, self.counting)) != self.versions:
                self.models.clear()
                self.held, self.counting = held, [x for x in held if not x.is_inference()]
                self.versions = list(map(_version, self.counting))
            key = tuple((x.shape, x.dtype) if isinstance(x, torch.Tensor) else x for x in map(args.__getitem__, self.given))
            if key not in self.models:
                self.models[key] = self._build(args)
            return self.models[key]

    def _build(self, args: Sequence[Any]) -> _Entry | None:
        from .backend.compile import compile
        from .frontend.torch.trace import trace
        from .passes import transform

        assert self.static is not None
        bound = {i: x for i, x in enumerate(args) if i in self.static or not isinstance(x, torch.Tensor)}
        given = tuple(x for i, x in enumerate(args) if i not in bound)
        if foreign := next((x.device for x in args if isinstance(x, torch.Tensor) and x.device.type != "cpu"), None):
            raise TersorError(f"torch.compile(backend='tersor') got a tensor on {foreign}; move the model and its inputs to the CPU")
        if not given:
            return None
        others: dict[int, Any] = {}

        def note(results: Sequence[Any]) -> None:
            others.update((i, y) for i, y in enumerate(results) if not isinstance(y, torch.Tensor))

        try:
            with torch.no_grad():
                graph = trace(_Bound(self.module, bound, len(args), note).eval(), given, batch=False)
        except TersorError:
            if torch._dynamo.config.suppress_errors:
                return None
            raise
        options = dict(self.options)
        pipeline = options.pop("pipeline", "")
        return compile(transform(graph, pipeline) if pipeline else graph, **options), others


@functools.cache
def _warn_of_gradients() -> None:
    warnings.warn(
        "torch.compile(backend='tersor') computes no gradients, so what asks for them runs eagerly: call the model under torch.no_grad() or "
        "torch.inference_mode()",
        stacklevel=3,
    )
