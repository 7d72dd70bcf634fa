"""fuse-chains: merge neighbouring kernels where that is faster because the feature map between them then stays in the cache.

    tile.fused { conv2d 1x1; clip } -> tile.fused { depthwise; clip } -> tile.fused { conv2d 1x1; add }
    =>  tile.fused { conv2d 1x1; clip; depthwise; clip; conv2d 1x1; add }

A fusion means its ops in sequence, so chaining is exact. Every feature map inside has one reader, and a template for chains must accept the
whole. Where the database has an entry for the chain, the measurement decides whether it is used; else the lower modelled cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...ir.graph import Graph, remapped
from ...ir.op import Value
from ..kernels.cost import beyond_l2
from ..kernels.template import template_named
from ..target import Target
from ..tile.fusion import Fusion
from ..tile.ops import Fused
from ..tuned.database import Database
from ..tuned.key import shape_key
from .alias_concats import finds_images
from .select_kernels import Choice, candidates, choose

#: Most fusions of a chain.
LONGEST = 3
#: Cycles that threads wait when a kernel starts.
FORK = 8000
#: Use a chain only if the model says it is this much faster.
WORTH = 1.05
#: About the cycles of a measured millisecond, so that measured and modelled savings of chains can be compared.
CYCLES = 4e6
#: The template in the database's entry of a chain for which separate kernels were faster.
SEPARATE = "separate"


@dataclass(frozen=True)
class Link:
    """Fusions that may become one, its template, and the cycles of one thread that it saves, as measured, else as modelled."""

    ops: tuple[Fused, ...]
    choice: Choice
    saves: float


def fuse_chains(graph: Graph, target: Target, threads: int, tuned: Database | None = None) -> Graph:
    """Merge fusions of a graph with selected kernels into chains, in place: those that save most first."""
    links = [link for op in graph.ops if isinstance(op, Fused) for n in range(2, LONGEST + 1) if (link := _link(op, n, target, threads, tuned))]
    taken: set[Fused] = set()
    for link in sorted(links, key=lambda link: -link.saves):
        if taken.isdisjoint(link.ops):
            taken.update(link.ops)
            _merge(graph, link)
    return graph


def linked(first: Fused, length: int, target: Target, threads: int) -> tuple[list[Fused], Fused] | None:
    """The `length` fusions that start with this one, and the merged fusion; None where no template accepts it."""
    ops = [first]
    while len(ops) < length:
        users = list(ops[-1].out.uses)
        if len(users) != 1 or not isinstance(users[0], Fused):
            return None
        ops.append(users[0])
    if any(len(Fusion(op).segments) > 1 for op in ops):
        return None
    together = merged(ops)
    fusion = Fusion(together)
    # a fusion of only elementwise ops cannot be a segment of a chain
    return (ops, together) if len(fusion.segments) == length and candidates(fusion, target, threads) else None


def _link(first: Fused, length: int, target: Target, threads: int, tuned: Database | None) -> Link | None:
    """The chain of `length` fusions that starts with this one, if it is faster."""
    found = linked(first, length, target, threads)
    if found is None:
        return None
    ops, together = found
    key = shape_key(together)
    entry = tuned.section(target, threads).get(key) if tuned is not None else None
    if entry is not None and entry.template == SEPARATE:
        return None
    fusion = Fusion(together)
    choice = choose(fusion, target, threads, tuned, key)
    template = template_named(choice.template, fusion.anchor)
    if not finds_images(template, (*together.args, ops[-1].out)):
        return None
    if ops[-1].lane_offset >= 0 and not template.masked_stores:
        return None
    if entry is not None and choice.chosen in ("tuned", "only"):
        separate = entry.of(SEPARATE, {})
        saves = float("inf") if separate is None else CYCLES * (separate.ms - entry.ms)
        return Link(tuple(ops), replace(choice, chosen="tuned"), saves)
    saves = separate_cost(ops, target, threads) - WORTH * template_named(choice.template, fusion.anchor).cost(fusion, target, choice.params)
    return Link(tuple(ops), choice, saves) if saves > 0 else None


def separate_cost(ops: list[Fused], target: Target, threads: int) -> float:
    """Modelled cycles of separate kernels, of all their forks but one, and of the feature maps between them that exceed L2."""
    kernels = sum(template_named(op.template, Fusion(op).anchor).cost(Fusion(op), target, op.params) for op in ops)
    forks = FORK * (len(ops) - 1) if threads > 1 else 0
    return kernels + forks + sum(beyond_l2(max(0, op.out.type.nbytes - target.l2 // 2)) for op in ops[:-1])


def merged(ops: list[Fused]) -> Fused:
    """One fusion of the ops of several, in sequence."""
    results = {op.out for op in ops[:-1]}
    args = list(dict.fromkeys(v for op in ops for v in op.args if v not in results))
    body = Graph(ops[0].body.name)
    outer: dict[Value, Value] = {v: body.add_input(v.type, f"a{i}") for i, v in enumerate(args)}
    for op in ops:
        inner = {own: outer[v] for own, v in zip(op.body.inputs, op.args)}
        for step in op.body.ops:
            copy = remapped(step, inner)
            body.add(copy)
            inner[step.out] = copy.out
        outer[op.out] = inner[op.body.outputs[0]]
    body.set_outputs([outer[ops[-1].out]])
    return Fused(args, body, loc=ops[0].loc)


def _merge(graph: Graph, link: Link) -> None:
    # merge again: other chains may have replaced its operands
    op, choice = merged(list(link.ops)), link.choice
    op.template, op.params, op.chosen = choice.template, choice.params, choice.chosen
    graph.replace(link.ops[-1], op)
    for old in reversed(link.ops[:-1]):
        graph.erase(old)
