"""Factorize the convolutions of a network in order, each fitted to its original response on the inputs that it now gets."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Op
from ...ir.ops import Conv2d
from ..core.context import Context
from ..reconstruct import Replay, gather
from ..reconstruct.shortage import Short, warn_short
from .base import FactorizePass
from .choose import Layer, Option, cheapest, within_budget, within_error
from .design import Design, Factors, bias_of, cost, cost_of, taps_of, unfit, weights_of
from .report import LayerReport, LayerTable
from .response import F64, Response

if TYPE_CHECKING:
    from numpy.random import Generator


def factorize(graph: Graph, options: FactorizePass, ctx: Context) -> LayerTable:
    """Factorize in place the layers that the options choose; all is decided before anything changes. Returns and records a report on each layer."""
    options.check(graph)
    reasons: dict[Op, str] = {}
    designs: dict[Conv2d, list[Design]] = {}
    for conv in graph.find(Conv2d):
        assert isinstance(conv, Conv2d)
        found = candidates(conv, options, graph)
        if isinstance(found, str):
            reasons[conv] = found
        else:
            designs[conv] = found
    chosen = choose(graph, designs, options, ctx, reasons)
    new, rows = reconstruct_layers(graph, chosen, options, ctx)
    table = LayerTable()
    for conv in graph.find(Conv2d):
        if conv in rows:
            table.append(rows[conv])
        else:
            assert isinstance(conv, Conv2d)
            table.append(LayerReport.of(conv, cost_of(conv), cost_of(conv), reason=reasons[conv]))
            if ctx.why is not None:
                ctx.why.add(options.name, conv, reasons[conv])
    for op, last in new.items():
        graph.replace(op, last)
    graph.remove_dead()
    ctx.layers = table
    repaired = options.reconstruct and bool(ctx.calibration)
    ctx.record(Counter({"factorized and repaired" if repaired else "factorized by weights alone, no repair": len(new)} if new else {}))
    return table


def candidates(conv: Conv2d, options: FactorizePass, graph: Graph) -> list[Design] | str:
    """The designs of a convolution that cost less than it does, or the reason why there are none."""
    if any(fnmatch.fnmatchcase(conv.loc.path, pattern) for pattern in options.exclude):
        return "excluded"
    own = options.at(conv)
    if options.layers:
        own.check(graph)
    if own.macs != options.macs:
        raise TersorError("macs is a budget of the whole graph: it cannot differ by layer")
    own.check_choice()
    if (reason := unfit(conv)) is not None:
        return reason
    fitting = [d for d in own.designs() if d.refuses(conv) is None]
    if not fitting:
        return next(filter(None, (d.refuses(conv) for d in own.designs())))
    costs = [cost(d.start(weights_of(conv)).build(conv, bias_of(conv))) for d in fitting]
    saving = [d for d, c in zip(fitting, costs) if c.macs < conv.macs()]
    if not saving:
        d, c = min(zip(fitting, costs), key=lambda x: x[1].macs)
        return f"{d.label} would cost {c.macs} MACs, it costs {conv.macs()}"
    return saving


# -- choice ------------------------------------------------------------------------------------


def choose(graph: Graph, designs: dict[Conv2d, list[Design]], options: FactorizePass, ctx: Context, reasons: dict[Op, str]) -> dict[Conv2d, Design]:
    """The design of each convolution that is factorized; `reasons` gets the reason why another is not."""
    if not options.chooses and not any(options.at(conv).chooses for conv in designs):
        return {conv: found[0] for conv, found in designs.items()}
    layers = measure(graph, designs, options, ctx)
    most = [options.at(x.conv).max_error for x in layers]
    allowed = within_error(layers, most)
    if options.macs is not None:
        within = "" if options.max_error is None else f" with max_error={options.max_error:g}"
        picked = within_budget(allowed, graph.macs(), options.macs, f"macs={options.macs:g}{within}")
    else:
        picked = cheapest(allowed)
    for layer, option, limit in zip(layers, picked, most):
        if option is None:
            best = min(layer.options, key=lambda o: o.error)
            too_far = limit is not None and best.error > limit
            reasons[layer.conv] = f"{best.design.label} has error {best.error:.4f}, " + (
                f"above max_error={limit:g}" if too_far else "not needed for the budget"
            )
    return {x.conv: o.design for x, o in zip(layers, picked) if o is not None}


def measure(graph: Graph, designs: dict[Conv2d, list[Design]], options: FactorizePass, ctx: Context) -> list[Layer]:
    """The error of every design, with one layer replaced at a time."""
    layers = []
    for conv, response, _ in responses(graph, list(designs), options, ctx, f"{options.name}: errors"):
        w = weights_of(conv)
        found = []
        for design in designs[conv]:
            factors, bias, _, after = fitted(conv, w, design, response, options.at(conv))
            found.append(Option(design, after, cost(factors.build(conv, bias))))
        layers.append(Layer(conv, found))
    return layers


def responses(
    graph: Graph, convs: Sequence[Conv2d], options: FactorizePass, ctx: Context, what: str
) -> Iterator[tuple[Conv2d, Response, Replay | None]]:
    """Each convolution with its response: with calibration from data, in the order of the walk; else from its weights."""
    if not convs or not ctx.calibration:
        yield from ((conv, Response.of_weights(weights_of(conv)), None) for conv in convs)
        return
    rng, wanted = ctx.rng, set(convs)
    for layer in (replay := Replay(graph, ctx.calibration, ctx, what, options.samples)):
        if isinstance(layer, Conv2d) and layer in wanted:
            yield layer, gathered(replay, layer, options, rng), replay


def gathered(replay: Replay, conv: Conv2d, options: FactorizePass, rng: Generator) -> Response:
    """The response of a convolution: twice as many rows as its patches have columns, where the feature maps have them."""
    unknowns = conv.x.shape[1] * taps_of(conv)
    per_image = max(options.positions, math.ceil(2 * unknowns / replay.images))
    (moments,) = gather(replay, conv, conv, rng, per_image)
    return Response.of_moments(moments)


def fitted(conv: Conv2d, w: F64, design: Design, response: Response, options: FactorizePass) -> tuple[Factors, F64 | None, float, float]:
    """Factors, their bias, and the errors before and after the refit. Where a refit does not help, only the bias is refitted."""
    bias = bias_of(conv)
    start = design.start(w)
    before = response.error(start.kernel(), None if not response.measured else 0 * response.mean_y if bias is None else bias)
    if not (options.reconstruct and response.measured):
        return start, bias, before, before
    best = min((design.fit(w, response), start), key=lambda f: response.error(f.kernel()))
    kernel = best.kernel()
    return best, response.bias(kernel), before, response.error(kernel)


# -- the walk ----------------------------------------------------------------------------------


def reconstruct_layers(
    graph: Graph, chosen: dict[Conv2d, Design], options: FactorizePass, ctx: Context
) -> tuple[dict[Op, Op], dict[Op, LayerReport]]:
    """The replacement of each chosen convolution, and its report; layer after layer, with the activations of both networks carried forward."""
    new: dict[Op, Op] = {}
    rows: dict[Op, LayerReport] = {}
    short: list[Short] = []
    images = 0
    for conv, response, replay in responses(graph, list(chosen), options, ctx, options.name):
        design = chosen[conv]
        factors, bias, before, after = fitted(conv, weights_of(conv), design, response, options.at(conv))
        if replay is not None:
            factors = design.opened(factors, replay, conv)
        new[conv] = factors.build(conv, bias)
        rows[conv] = LayerReport.of(conv, cost_of(conv), cost(new[conv]), design.label, "", (before, after), response.measured)
        if replay is not None:
            replay.replace_layer(conv, new[conv])
        if response.measured and response.rows <= len(response.gram):
            short.append(Short(conv, len(response.gram), response.rows))
            images = replay.images if replay is not None else images
    if options.reconstruct:
        warn_short(options.name, short, images, "where the factors start")
    return new, rows
