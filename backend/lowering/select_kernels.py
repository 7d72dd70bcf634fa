"""select-kernels: give each fusion the template and parameters that were measured as fastest, else those with the lowest modelled cost."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from ...ir.errors import TersorError, UnsupportedError
from ...ir.graph import Graph
from ..kernels.template import Params, Template, chain_templates, templates_for
from ..target import Target
from ..tile.fusion import Fusion
from ..tile.ops import Fused
from ..tuned.database import Database, Entry, plain
from ..tuned.key import shape_key

#: Modelled costs of one template within this ratio count as equal.
SAME_COST = 1.05


#: Largest Winograd output tile by default: F(4x4) is as precise as a direct convolution, F(6x6) about ten times less.
WINOGRAD = 4
#: Valid values of the option `winograd`: 0 for none, else the largest m of F(m x m, 3x3).
WINOGRAD_TILES = (0, 2, 4, 6)


@dataclass(frozen=True)
class Choice:
    """A template and its parameters. chosen: `tuned` (measured), `model` (lowest modelled cost), `only` (no alternative), or `stale`
    (as `model`, since the database's entry does not fit this version)."""

    template: str
    params: Params
    chosen: str


def select_kernels(graph: Graph, target: Target, threads: int, tuned: Database | None = None, winograd: int = WINOGRAD) -> Graph:
    """Write `template`, `params` and `chosen` on every fusion, in place. winograd: the largest m of F(m x m, 3x3) to use, 0 for none."""
    made: dict[str, Choice] = {}
    for op in graph.ops:
        if isinstance(op, Fused):
            key = choice_key(op, target)
            if key not in made:
                made[key] = choose(Fusion(op), target, threads, tuned, key, winograd)
            choice = made[key]
            op.template, op.params, op.chosen = choice.template, choice.params, choice.chosen
    return graph


def choice_key(op: Fused, target: Target) -> str:
    """The key of a fusion in the database: its shape, and the properties of its weights that decide the candidates."""
    templates = [template for template in templates_for(op.body.ops[0]) if target.kind in template.kinds]
    variants = {v: None for template in templates if (v := template.variant(Fusion(op), target))}
    return " / ".join([shape_key(op), *variants])


def choose(fusion: Fusion, target: Target, threads: int, tuned: Database | None = None, key: str = "", winograd: int = WINOGRAD) -> Choice:
    """The best template for a fusion.

    Raises `UnsupportedError` when none accepts the fusion, and `TersorError` for an entry of the database with an unknown template for
    this operator or unknown parameters.
    """
    options = candidates(fusion, target, threads, winograd)
    if not options:
        known = ", ".join(t.name for t in offered(fusion, target)) or "none"
        raise UnsupportedError(
            f"no kernel for {fusion.anchor.name} {fusion.anchor.out.type} [{fusion.anchor.loc}]; templates registered for it: {known}. "
            "Register one with @tersor.kernel, or rewrite the operator with a pass"
        )
    if len(options) == 1:
        return Choice(options[0][0].name, options[0][1], "only")
    entry = tuned.section(target, threads).get(key or choice_key(fusion.op, target)) if tuned is not None else None
    offers = {t.name: t for t in offered(fusion, target)}
    if tuned is None or entry is None or (entry.template in offers and not allowed(offers[entry.template], entry.params, winograd)):
        return modelled(fusion, target, options)
    key = key or choice_key(fusion.op, target)
    params = _checked(fusion, target, options, entry, f"{tuned.name}: entry {key!r}")
    if params is not None:
        return Choice(entry.template, params, "tuned")
    warnings.warn(
        f"{tuned.name}: entry {key!r} is ignored, because template {entry.template!r} does not take such a fusion any more; "
        f"valid: {', '.join(dict.fromkeys(t.name for t, _ in options))}. Tune it again",
        stacklevel=3,
    )
    model = modelled(fusion, target, options)
    return Choice(model.template, model.params, "stale")


def allowed(template: Template, params: Params, winograd: int) -> bool:
    """Whether a choice is within the Winograd tile that the option `winograd` allows."""
    return template.winograd_tile(params) <= winograd


def offered(fusion: Fusion, target: Target) -> list[Template]:
    """Templates for a kind of target registered for such a fusion: for its anchor, or for chains."""
    registered = templates_for(fusion.anchor) if len(fusion.segments) == 1 else chain_templates()
    return list(dict.fromkeys(t for t in registered if target.kind in t.kinds))


def candidates(fusion: Fusion, target: Target, threads: int, winograd: int = WINOGRAD) -> list[tuple[Template, Params]]:
    """Every template that accepts the fusion, with each of its parameter choices, without duplicates."""
    result: list[tuple[Template, Params]] = []
    for template in offered(fusion, target):
        if template.accepts(fusion, target):
            seen: list[Params] = []
            for params in template.candidates(fusion, target, threads):
                if params not in seen and allowed(template, params, winograd):
                    seen.append(params)
            result.extend((template, params) for params in seen)
    return result


def modelled(fusion: Fusion, target: Target, options: list[tuple[Template, Params]]) -> Choice:
    """The template with the lowest modelled cost, with the first of its parameters of about that cost: their order is the template's preference."""
    costs = [template.cost(fusion, target, params) for template, params in options]
    best = min(costs)
    chosen = options[costs.index(best)][0]
    params = next(params for (template, params), cost in zip(options, costs) if template is chosen and cost <= SAME_COST * best)
    return Choice(chosen.name, params, "model")


def _checked(fusion: Fusion, target: Target, options: list[tuple[Template, Params]], entry: Entry, where: str) -> Params | None:
    """The parameters of an entry, checked; None when its template does not accept the fusion."""
    known = {t.name: t for t in offered(fusion, target)}
    if entry.template not in known:
        raise TersorError(
            f"{where} names template {entry.template!r}, which is not registered for {fusion.anchor.name}; valid: {', '.join(known)}. "
            "Import the module that registers it, or tune again"
        )
    own = [params for template, params in options if template.name == entry.template]
    if not own:
        return None
    for params in own:
        if plain(params) == entry.params:
            return params
    params = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.params.items()}
    if not any(_same_kind(params, other) for other in own):
        some = "; ".join(", ".join(f"{k}={v!r}" for k, v in p.items()) or "none" for p in own[:3])
        raise TersorError(f"{where} gives {entry.template!r} the parameters {entry.params}; valid are such as {some}. Tune again")
    try:
        known[entry.template].cost(fusion, target, params)
    except Exception as error:
        raise TersorError(f"{where} gives {entry.template!r} parameters {entry.params} that it cannot use: {error}. Tune again") from error
    return params


def _same_kind(given: Params, other: Params) -> bool:
    """Whether both have the same parameters with the same types, positive numbers positive, and equal names."""

    def fits(a: object, b: object) -> bool:
        number = isinstance(b, (int, float)) and not isinstance(b, bool) and b > 0
        return type(a) is type(b) and (a > 0 if number else a == b)  # type: ignore[operator]

    return given.keys() == other.keys() and all(fits(v, other[k]) for k, v in given.items())
