"""What the accuracy benchmark runs: one `Run` per row of its JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .dependency_graph import Variant

NETWORKS = ("resnet20", "vgg", "mobilenet")
METHODS = ("lasso", "obs", "l1", "bn-gamma", "random", "first-k")
#: Shares of multiply-accumulates that are left.
SHARES = (0.5, 0.25)
SEEDS = (0, 1, 2)
LITE0 = "efficientnet-lite0"
LITE0_SHARES = (0.8, 0.65)
#: Suffix of the method in a label -> options.
LITE0_REPAIRS = {
    "": "",
    ", no reconstruction": " reconstruct=false",
    ", layers that lose nothing refitted too": " refit_all=true",
    ", blocks fitted whole": " block_epochs=10",
}

#: Unlabelled images for calibration, of Fashion-MNIST's 60,000.
IMAGES = 4096

#: Label -> pipeline; each differs from that of the curves as its label says. The method is the default, backward elimination.
ABLATION: dict[str, str] = {
    "no reconstruction": "fold-bn,prune-channels{{{budget} reconstruct=false}}",
    "no reconstruction, batch norms recalibrated": "prune-channels{{{budget} reconstruct=false}},recalibrate-bn,fold-bn",
    "batch norms kept while pruning": "prune-channels{{{budget}}},fold-bn",
    "batch norms kept while pruning, then recalibrated": "prune-channels{{{budget}}},recalibrate-bn,fold-bn",
    "each branch's own target": "fold-bn,prune-channels{{{budget} residual_target=false}}",
    "l1, each branch's own target": "fold-bn,prune-channels{{{budget} method=l1 residual_target=false}}",
    "inputs of branches not sampled": "fold-bn,prune-channels{{{budget} sample_inputs=false}}",
    "refitted to the linear response": "fold-bn,prune-channels{{{budget} clamped=false}}",
    "errors of early layers count in full": "fold-bn,prune-channels{{{budget} repaired_later=0}}",
    "residual streams pruned too": "fold-bn,prune-channels{{{budget} streams=true}}",
    "256 images": "fold-bn,prune-channels{{{budget} samples=256}}",
    "1024 images": "fold-bn,prune-channels{{{budget} samples=1024}}",
}
#: Label -> which channels Torch-Pruning takes; "branches" leaves the residual stream its width, as prune-channels does.
PEER: dict[str, Variant] = {
    "magnitude": Variant(),
    "magnitude, one ranking": Variant(one_ranking=True),
    "magnitude, branches": Variant(branches=True),
    "magnitude, branches, one ranking": Variant(branches=True, one_ranking=True),
    "taylor with labels, branches, one ranking": Variant("taylor", branches=True, one_ranking=True),
}
REPAIRS = ("none", "batch norms recalibrated", "least squares")


@dataclass(frozen=True)
class Run:
    """group: its table. macs: the share wanted, None where the passes decide. pipeline: empty for networks that our passes do not make.
    variant, repair: of Torch-Pruning. images: for calibration; the pass may use fewer."""

    network: str
    group: str
    label: str
    macs: float | None
    seed: int
    pipeline: str = ""
    variant: Variant | None = None
    repair: str = ""
    images: int = field(default=IMAGES)

    @property
    def key(self) -> str:
        return "/".join([self.network, self.group, self.label, "-" if self.macs is None else f"{self.macs:g}", str(self.seed)])

    @property
    def file(self) -> str:
        """A name for its compiled network, which depends on all fields of the run."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16] + ".tso"


def runs(shares: Sequence[float] = SHARES, seeds: Sequence[int] = SEEDS) -> Iterator[Run]:
    """All runs, in an order that makes an interrupted benchmark useful: every table for the first seed, then the next."""
    for network in NETWORKS:
        yield Run(network, "original", "original", 1.0, 0, "default")
    for seed in seeds:
        for network in NETWORKS:
            yield from curves(network, shares, seed)
            yield from curves(network, shares, seed, "blocks", " block_epochs=10")
            if network == "resnet20":
                yield from curves(network, shares, seed, "all layers", " refit_all=true")
                yield from curves(network, shares, seed, "same share", " per_layer=uniform")
                yield from ablations(network, shares, seed)
                yield from separables(network, seed)
            yield from peers(network, shares, seed)
            for macs in shares:
                yield Run(network, "scratch", "trained at that size", macs, seed, "default")
    yield Run(LITE0, "original", "original", 1.0, 0, "default", images=240)
    for seed in seeds:
        for macs in LITE0_SHARES:
            for method in ("obs", "lasso", "l1", "random"):
                for what, more in LITE0_REPAIRS.items():
                    if not more or method in ("obs", "l1"):
                        pipeline = f"default,prune-channels{{macs={macs:g} method={method}{more}}}"
                        yield Run(LITE0, "imagenet", f"{method}{what}", macs, seed, pipeline, images=240)


def budget(macs: float) -> str:
    """Options that every pruning shares: the budget, and all images."""
    return f"macs={macs:g} samples={IMAGES}"


def curves(network: str, shares: Sequence[float], seed: int, group: str = "curve", more: str = "") -> Iterator[Run]:
    """Every method of prune-channels with the same repair and data; more: options of all of them."""
    for macs in shares:
        for method in METHODS:
            prune = f"prune-channels{{{budget(macs)} method={method}{more}}}"
            # the gammas are gone once the norms are folded
            yield Run(network, group, method, macs, seed, f"{prune},fold-bn" if method == "bn-gamma" else f"fold-bn,{prune}")


def ablations(network: str, shares: Sequence[float], seed: int) -> Iterator[Run]:
    for macs in shares:
        for label, pipeline in ABLATION.items():
            yield Run(network, "ablation", label, macs, seed, pipeline.format(budget=f"macs={macs:g}" if "samples=" in pipeline else budget(macs)))


def separables(network: str, seed: int) -> Iterator[Run]:
    """Depthwise-separable conversion; without repair there is nothing that a seed changes."""
    for rank in (1, 2, 3):
        if seed == 0:
            yield Run(
                network, "separable", f"rank {rank}, weights alone", None, 0, f"fold-bn,to-depthwise-separable{{rank={rank} reconstruct=false}}"
            )
        yield Run(network, "separable", f"rank {rank}, least squares", None, seed, f"fold-bn,to-depthwise-separable{{rank={rank} samples={IMAGES}}}")


def peers(network: str, shares: Sequence[float], seed: int) -> Iterator[Run]:
    """Torch-Pruning with each repair; the variants of residual branches only where there are branches."""
    for macs in shares:
        for label, variant in PEER.items():
            if variant.branches and network != "resnet20":
                if "taylor" not in label:
                    continue
                label, variant = "taylor with labels, one ranking", Variant("taylor", one_ranking=True)
            for repair in REPAIRS if label == "magnitude" else REPAIRS[-1:]:
                yield Run(network, "torch-pruning", f"{label}; {repair}", macs, seed, variant=variant, repair=repair)
