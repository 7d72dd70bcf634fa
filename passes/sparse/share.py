"""share-weights: the weights of a layer take a few values, which training moves together."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op
from ...ir.ops import Masked, Shared
from ..core.base import LayerPass, register_pass
from ..core.context import Context
from ..reconstruct.moments import F64
from .layers import Layer, dense_of, name_of, select

#: Most values of a layer: the index is a byte, and index 0 is the value zero.
MOST = 255


@dataclass(frozen=True)
class SharedLayer:
    """A layer: how many values besides zero, the share of zeros, and |W - W'| / |W|; or why it stays. runs: how it is computed when compiled."""

    layer: str
    shape: tuple[int, ...]
    values: int = 0
    sparsity: float = 0.0
    error: float = 0.0
    runs: str = "expanded"
    kept: str = ""


@register_pass
@dataclass(frozen=True)
class ShareWeights(LayerPass):
    """Give the weights of each layer 2^bits values; those that share one stay equal through training.

    conv(x, w, b)  ->  conv(x, sparse.shared(codebook, index), b),   codebook = k-means of the weights that are not zero

    Weights that are zero stay zero, so run `sparsify` first. k-means starts with values at equal distances from the smallest to the
    largest weight, which keeps large weights apart. In `finetune` each value moves by the sum of the gradients of its weights. A network
    with shared weights is saved with few bits a weight (`save(..., entropy=True)`); compiled, its weights are expanded.

    bits: 1 to 8; 8 gives 255 values. depthwise: depthwise convolutions too. exclude: patterns of module paths that stay. layers: other bits
    for some layers. iterations: of k-means at most.
    Han, Mao and Dally, 1510.00149, section 3.
    """

    name = "share-weights"
    keeps = "lossy"

    bits: int = 5
    depthwise: bool = True
    exclude: tuple[str, ...] = ()
    iterations: int = 100

    def run(self, graph: Graph, ctx: Context) -> None:
        for value in [self.bits, *(options["bits"] for options in self.layers.values() if "bits" in options)]:
            if not 1 <= value <= 8:
                raise TersorError(f"bits of a shared weight are 1 to 8, got {value}")
        if self.iterations < 1:
            raise TersorError(f"iterations must be at least 1, got {self.iterations}")
        chosen, kept = select(graph, self.exclude, self.depthwise)
        place: dict[Op, int] = {op: i for i, op in enumerate(graph.ops)}
        rows = {layer: self._share(graph, layer) for layer in ctx.track(chosen, self.name)}
        rows |= {layer: SharedLayer(name_of(layer), layer.w.shape, kept=why) for layer, why in kept.items()}
        ctx.layers.extend(row for _, row in sorted(rows.items(), key=lambda item: place[item[0]]))
        graph.remove_dead()
        ctx.record(Counter({"layers": len(chosen)}))

    def _share(self, graph: Graph, layer: Layer) -> SharedLayer:
        source = layer.w.op
        if isinstance(source, Masked) and source.sparsity > 0:
            raise TersorError(f"{name_of(layer)}: its zeros are to come in training (sparsify{{gradual=true}}): run finetune before share-weights")
        w = dense_of(layer.w)
        assert w is not None
        codebook, index = clusters(w.astype(np.float64), min(MOST, 1 << self.at(layer).bits), self.iterations)
        values = codebook.astype(w.dtype)
        named = source.w.name if isinstance(source, Masked) else layer.w.name
        book, numbers = Const(values, loc=layer.loc), Const(index, loc=layer.loc)
        book.out.name, numbers.out.name = named or f"{name_of(layer)}.weight", f"{named or name_of(layer)}.index"
        graph.replace(layer, layer.rebuilt(w=Shared(book, numbers, loc=layer.loc)))
        new = np.concatenate([np.zeros(1), codebook])[index]
        norm = float(np.linalg.norm(w.astype(np.float64)))
        error = float(np.linalg.norm(w - new)) / norm if norm else 0.0
        return SharedLayer(name_of(layer), w.shape, len(codebook), float((index == 0).mean()), error)


def clusters(w: F64, count: int, iterations: int) -> tuple[F64, np.ndarray]:
    """At most `count` values, ascending, and for each weight the number of its value from 1 on, 0 where it is zero."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    index = np.zeros(w.shape, np.uint8)
    there = w != 0
    values = w[there]
    different = np.unique(values)
    if len(different) <= count:
        centres, number = (different if len(different) else np.zeros(1)), np.searchsorted(different, values)
    else:
        start = np.linspace(values.min(), values.max(), count).reshape(-1, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(count, init=start, n_init=1, max_iter=iterations).fit(values.reshape(-1, 1))
        order = np.argsort(found.cluster_centers_[:, 0], kind="stable")
        centres, number = found.cluster_centers_[order, 0], np.argsort(order, kind="stable")[found.labels_]
    index[there] = number + 1
    return centres, index
