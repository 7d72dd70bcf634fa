"""Makes in-place calls functional without a second trace, in the common case where no alias can see the difference.

torch's own functionalization handles every alias but traces the program twice more, which is most of the time of an import.
Typical networks change only results that were just computed (`relu_(batch_norm(x))`, `y += x`); those are rewritten here.
"""

from __future__ import annotations

import operator

import torch
from torch import fx
from torch.export import ExportedProgram

from ..registry import CONVERTERS

#: Composite operators that always write new memory, which their schemas do not promise.
_NEW_MEMORY = {
    "aten.batch_norm.default",
    "aten.conv1d.default",
    "aten.conv2d.default",
    "aten.conv2d.padding",
    "aten.conv_transpose2d.input",
    "aten.group_norm.default",
    "aten.instance_norm.default",
    "aten.layer_norm.default",
    "aten.linear.default",
    "aten.matmul.default",
    "aten.max_pool2d.default",
    "aten.relu6.default",
}

_DROPOUT = {f"aten.{kind}dropout{end}.default" for kind in ("", "feature_", "alpha_", "feature_alpha_") for end in ("", "_")}


def remove_dropout(program: ExportedProgram) -> None:
    """Replace dropouts in evaluation mode by their argument: they return it itself, an alias that their schemas do not declare."""
    for node in list(program.graph.nodes):
        if str(node.target) in _DROPOUT and not (node.args[2] and node.args[1] > 0):
            program.graph_signature.replace_all_uses(node.name, node.args[0].name)
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()


def make_functional(graph: fx.Graph) -> bool:
    """Rewrite `graph` so that no call changes an argument and every operator has a converter; False, and no change, where that needs torch's help."""
    roots = _roots(graph)
    if roots is None:
        return False
    latest: dict[fx.Node, fx.Node] = {}

    def current(n: fx.Node) -> fx.Node:
        root = roots.get(n, n)
        return latest.get(root, root)

    changing = []
    for node in graph.nodes:
        node.args, node.kwargs = fx.map_arg(node.args, current), fx.map_arg(node.kwargs, current)
        if node in roots:
            target = _functional(node)
            assert target is not None
            with graph.inserting_before(node):
                # the second relu_ is called relu__1
                plain = target._schema.name.partition("::")[2]
                name = node.name.replace(f"{plain}_", plain, 1)
                new = graph.create_node("call_function", target, node.args, node.kwargs, name)
            new.meta = node.meta
            latest[roots[node]] = new
            changing.append(node)
    for node in reversed(changing):
        graph.erase_node(node)
    graph.eliminate_dead_code()
    return True


def _roots(graph: fx.Graph) -> dict[fx.Node, fx.Node] | None:
    """For each in-place call the call that allocated the memory it changes; None where one of them needs torch's functionalization."""
    roots: dict[fx.Node, fx.Node] = {}
    #: memory that a result other than its root and its in-place calls may share
    shared: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem or not _touches_tensor(node):
            continue
        if not isinstance(node.target, torch._ops.OpOverload):
            return None
        if _updates_statistics(node):
            return None
        if not node.target._schema.is_mutable:
            if str(node.target) not in CONVERTERS and _reads(node):
                return None
            if not _is_new(node):
                shared |= {roots.get(n, n) for n in _reads(node)}
            continue
        root = _changed(node, roots)
        if root is None or root in shared:
            return None
        roots[node] = root
    return roots


def _changed(node: fx.Node, roots: dict[fx.Node, fx.Node]) -> fx.Node | None:
    """The call that allocated what an in-place call `op_(x, ...)` changes; None for a call of another form, or one that changes other memory."""
    target = _functional(node)
    x = node.args[0] if node.args else None
    if target is None or str(target) not in CONVERTERS or not isinstance(x, fx.Node):
        return None
    root = roots.get(x, x)
    dtypes = {n.meta["val"].dtype for n in _reads(node)}
    if root.op != "call_function" or root.target is operator.getitem or not _is_new(root) or len(dtypes) != 1:
        return None
    return root


def _functional(node: fx.Node) -> torch._ops.OpOverload | None:
    """aten.relu_.default -> aten.relu.default"""
    assert isinstance(node.target, torch._ops.OpOverload)
    namespace, name, overload = str(node.target).split(".")
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None) if name.endswith("_") else None
    found: torch._ops.OpOverload | None = getattr(packet, overload, None)
    return found


def _is_new(node: fx.Node) -> bool:
    """Whether a call's result is memory that nothing else shares."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    if target._schema.is_mutable or any(r.alias_info is not None for r in target._schema.returns):
        return False
    schema = target._schema
    name = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(name, torch._C.DispatchKey.CompositeImplicitAutograd)
    return not composite or str(target) in _NEW_MEMORY


def _updates_statistics(node: fx.Node) -> bool:
    """Whether a normalization changes its running statistics, which the schemas of these two do not say."""
    return str(node.target) in ("aten.batch_norm.default", "aten.instance_norm.default") and bool(node.args[5]) and node.args[3] is not None


def _touches_tensor(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor | tuple | list)


def _reads(node: fx.Node) -> list[fx.Node]:
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]
