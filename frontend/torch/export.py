"""Runs torch.export: a symbolic batch where possible, functional form, torch's decompositions, errors as one sentence."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stderr
from typing import Any

import torch
from torch import fx, nn
from torch._decomp import decomposition_table
from torch.export import Dim, ExportedProgram, default_decompositions
from torch.utils._pytree import tree_leaves, tree_map

from ...ir.errors import TersorError, UnsupportedError
from ..call import elem_of
from ..registry import CONVERTERS
from .functional import make_functional, remove_dropout
from .locations import error_source

#: The batch passed to torch.export instead of 1, which it would specialize to a constant. Models seldom have this size elsewhere.
_EXPORT_BATCH = 5


def export(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], batched: Sequence[torch.Tensor] = ()) -> ExportedProgram:
    """Export in functional form, decomposed down to operators that have converters.

    batched: the example tensors whose dimension 0 is the batch; it becomes one symbol. Empty: every size is static.
    Raises whatever torch raises; `reason` turns that into a sentence.
    """
    ids = {id(t) for t in batched}
    batch = Dim("batch", min=1)
    shapes = tree_map(lambda t: {0: batch} if id(t) in ids else None, (args, dict(kwargs))) if ids else None
    args, kwargs = tree_map(lambda t: _enlarged(t) if id(t) in ids else t, (args, dict(kwargs)))
    dynamic = None if shapes is None else _by_parameter(module, *shapes)
    with _quiet():
        program = torch.export.export(module, args, dict(kwargs), dynamic_shapes=dynamic, strict=False)
        remove_dropout(program)
        _check_out(program)
        if make_functional(program.graph):
            return program
        rules: dict[Any, Any] = dict(default_decompositions())
        return _decomposed(program.run_decompositions({op: rule for op, rule in rules.items() if str(op) not in CONVERTERS}))


def _check_out(program: ExportedProgram) -> None:
    """Refuse `out=` of another shape: torch resizes it, which the exported program does not show."""
    for node in program.graph.nodes:
        out, val = node.kwargs.get("out"), node.meta.get("val")
        if isinstance(out, fx.Node) and isinstance(val, torch.Tensor) and out.meta["val"].shape != val.shape:
            raise UnsupportedError(f"{node.target} writes a result of shape {list(val.shape)} into out= of shape {list(out.meta['val'].shape)}")


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    """Decompose operators without a converter further by torch's rules, where these end in operators that have one."""
    table: dict[str, tuple[Any, Any]] = {str(op): (op, rule) for op, rule in decomposition_table.items()}
    kept: set[str] = set()
    while True:
        names = ({str(n.target) for n in _unknown(program.graph)} & table.keys()) - kept
        if not names:
            return program
        further: ExportedProgram = program.run_decompositions(dict(table[name] for name in names))
        futile = {str(n.meta.get("original_aten")) for n in _unknown(further.graph)} & names
        if not futile:
            return further
        # such an operator is reported under the name that the user knows
        kept |= futile


def _unknown(graph: fx.Graph) -> list[fx.Node]:
    """Calls without a converter that read a tensor; those that read none are computed during the trace."""
    return [
        n
        for n in graph.nodes
        if n.op == "call_function" and isinstance(n.target, torch._ops.OpOverload) and str(n.target) not in CONVERTERS and _reads_tensor(n)
    ]


def _reads_tensor(node: fx.Node) -> bool:
    return any(isinstance(n.meta.get("val"), torch.Tensor) for n in node.all_input_nodes)


def _quiet() -> ExitStack:
    """A context without gradients and torch.export's warnings, logs and prints, which end up as one sentence here."""
    stack = ExitStack()
    stack.enter_context(torch.no_grad())
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    stack.callback(logging.disable, logging.root.manager.disable)
    logging.disable(logging.ERROR)
    stack.enter_context(redirect_stderr(io.StringIO()))
    # attention's fused inference operator has neither a converter nor a decomposition
    stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
    torch.backends.mha.set_fastpath_enabled(False)
    return stack


def _enlarged(t: torch.Tensor) -> torch.Tensor:
    return t.repeat(_EXPORT_BATCH, *[1] * (t.dim() - 1)) if t.shape[0] == 1 else t


def _by_parameter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Shapes under the names of forward's parameters, the one form that torch.export takes for args and kwargs together."""
    return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)


def batch_candidates(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[list[torch.Tensor]]:
    """Sets of example tensors that may carry the batch in dimension 0, in the order to try them, largest first.

    The batch is dimension 0 of the (first) tensor with the most dimensions; whichever tensor agrees in dimension 0 may carry it too.
    """
    tensors = [t for t in tree_leaves((args, dict(kwargs))) if isinstance(t, torch.Tensor) and t.dim() > 0]
    if not tensors:
        return []
    first = max(tensors, key=lambda t: t.dim())
    agreeing = [t for t in tensors if t.shape[0] == first.shape[0]]
    same_rank = [t for t in agreeing if t.dim() == first.dim()]
    sets = [agreeing, same_rank, [first]]
    return [s for i, s in enumerate(sets) if all(len(s) != len(t) for t in sets[:i])]


def check_module(module: object) -> nn.Module:
    """The module, in evaluation mode and of supported dtypes; raises TersorError for any other."""
    if not isinstance(module, nn.Module):
        raise TersorError(f"trace takes a torch.nn.Module, got {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise TersorError("trace takes a torch.nn.Module written in Python, got a TorchScript module; pass the module it was scripted from")
    training = [name or type(m).__name__ for name, m in module.named_modules() if m.training and _depends_on_mode(m)]
    if training:
        shown = ", ".join(training[:3]) + (f" and {len(training) - 3} more" if len(training) > 3 else "")
        raise TersorError(f"{type(module).__name__} is in training mode ({shown}); call model.eval() before trace")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        _check_dense(tensor, f"{name!r} of {type(module).__name__}")
        elem_of(tensor.dtype, f"{name!r} of {type(module).__name__}")
    return module


def _depends_on_mode(m: nn.Module) -> bool:
    if isinstance(m, nn.modules.batchnorm._NormBase):
        return m.track_running_stats
    return isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0


def check_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise TersorError when the example does not fit forward's parameters or holds a dtype that has no element type."""
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as err:
        name, count = type(module).__name__, len(args) + len(kwargs)
        raise TersorError(f"{name}.forward{signature} does not fit the example inputs: {err}, got {count}") from err
    leaves = tree_leaves((args, dict(kwargs)))
    tensors = [t for t in leaves if isinstance(t, torch.Tensor)]
    if leaves and not tensors:
        raise TersorError("example inputs hold no torch.Tensor; pass one tensor or a tuple of tensors, one for each parameter of forward")
    for i, t in enumerate(tensors):
        _check_dense(t, f"example input {i}")
        elem_of(t.dtype, f"example input {i}")
        if 0 in t.shape:
            raise TersorError(f"example input {i} has shape {tuple(t.shape)}: an empty tensor cannot be traced (out of scope)")


def _check_dense(tensor: torch.Tensor, what: str) -> None:
    """Refuse tensors of torch's sparse layouts, some of which end the process in torch.export."""
    if tensor.layout != torch.strided:
        raise UnsupportedError(
            f"{what} is a tensor of layout {tensor.layout}; valid: dense tensors, such as .to_dense() gives (sparse ones are out of scope)"
        )


def reason(error: Exception) -> str:
    """Why torch.export failed, in one line."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # the first line of a violated constraint says only that there is one
    details = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    text = details[0] if details and lines[0].startswith("Constraints violated") else lines[0]
    return text.partition(". If you")[0]


def located_reason(error: Exception) -> str:
    """`reason` with the user's source line."""
    source = error_source(error)
    return f"{reason(error)} [{source}]" if source else reason(error)


def export_error(module: nn.Module, error: Exception, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> TersorError:
    """The error to raise when even a static export fails: of the module itself, or out of scope."""
    source = error_source(error)
    where = f" at {source}" if source else ""
    name = type(module).__name__
    if _is_data_dependent(error):
        return UnsupportedError(
            f"{name}.forward decides by the values of a tensor{where}, which a graph without control flow cannot hold; "
            f"compute both sides and choose with torch.where, or move the decision out of the model (out of scope: {reason(error)})"
        )
    if (own := _own_error(module, args, kwargs)) is not None:
        return TersorError(f"{name} itself fails on the example inputs{where}: {reason(own)}; valid: inputs that the module runs on")
    return UnsupportedError(
        f"torch.export cannot trace {name}{where}: {reason(error)}; the module runs, so this is a limit of torch.export "
        "(out of scope: only what torch exports can be traced; write that part with other operators)"
    )


def _own_error(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exception | None:
    """What the module raises without torch.export."""
    try:
        with _quiet():
            module(*args, **kwargs)
    except Exception as error:  # the user's code may raise anything
        return error
    return None


def _is_data_dependent(error: Exception) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if "DataDependent" in type(seen).__name__ or "data-dependent" in str(seen).lower():
            return True
        seen = seen.__cause__ or seen.__context__
    return False
