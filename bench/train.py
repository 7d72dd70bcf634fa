"""Trains the small networks of the accuracy benchmark on Fashion-MNIST and keeps them in a cache.

python -m tersor.bench.train resnet20 [--seed 0] [--epochs 15] [--macs 0.5]

SGD with Nesterov momentum, one cycle of the learning rate (Smith and Topin, 1708.07120), random crops and flips, label smoothing. On
processors with AVX512-BF16 or AMX the convolutions compute in bf16 while training. The last epoch counts: nothing is chosen by the test images.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from .fashion import DataMissing, Images, fashion_mnist, normalized
from .fashion_networks import NETWORKS, build, count_macs

#: Zeros around an image before a random 28x28 crop is taken.
PADDING = 2
#: Checkpoints in the repository: the networks that tables of several days and machines start from.
WEIGHTS = Path(__file__).with_name("weights")


@dataclass(frozen=True)
class Recipe:
    """What determines a training. macs: the share of the full network's multiply-accumulates. bf16: None asks the processor."""

    network: str
    macs: float = 1.0
    seed: int = 0
    epochs: int = 15
    batch: int = 128
    lr: float = 0.2
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    bf16: bool | None = None

    @property
    def file(self) -> Path:
        """Where its checkpoint is kept."""
        size = "" if self.macs == 1 else f"-macs{self.macs:g}"
        return cache_folder() / f"{self.network}{size}-epochs{self.epochs}-seed{self.seed}.safetensors"


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/tersor/bench, by default ~/.cache/tersor/bench."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tersor" / "bench"


def fast_bf16(module: nn.Module) -> bool:
    """The processor has bf16 products and the network no depthwise convolutions, which torch trains faster in f32."""
    depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in module.modules())
    return not depthwise and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def train(recipe: Recipe, train_images: Images, test_images: Images, report: Callable[[str], None] = print) -> tuple[nn.Module, float]:
    """The trained network in evaluation mode and its top-1 on the test images, in per cent; one `report` line per epoch."""
    module: nn.Module = build(recipe.network, recipe.macs, recipe.seed).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    bf16 = fast_bf16(module) if recipe.bf16 is None else recipe.bf16
    decay = [p for p in module.parameters() if p.dim() > 1]
    rest = [p for p in module.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    steps = -(-len(train_images) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.epochs * steps + 1, pct_start=0.25, div_factor=10)
    random = torch.Generator().manual_seed(recipe.seed)
    parameters = sum(p.numel() for p in module.parameters())
    report(f"{recipe.network}: {count_macs(module) / 1e6:.2f} M MACs, {parameters / 1e3:.0f} k parameters, bf16 {bf16}")
    top1 = 0.0
    for epoch in range(recipe.epochs):
        start, total = time.perf_counter(), 0.0
        for x, y in batches(train_images, recipe.batch, random):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(module(x.to(memory_format=torch.channels_last)).float(), y, label_smoothing=recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(y)
        top1 = accuracy(module, test_images)
        seconds = time.perf_counter() - start
        report(f"epoch {epoch + 1}/{recipe.epochs}: loss {total / len(train_images):.4f}, test top-1 {top1:.2f} %, {seconds:.0f} s")
    return module.eval(), top1


def batches(images: Images, size: int, random: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All images once in random order, each shifted by up to PADDING pixels and mirrored half the time."""
    padded = F.pad(images.pixels, (PADDING,) * 4)
    side = torch.arange(28)
    for chosen in torch.randperm(len(images), generator=random).split(size):  # type: ignore[no-untyped-call]
        row, column = torch.randint(0, 2 * PADDING + 1, (2, len(chosen), 1), generator=random) + side
        mirrored = torch.rand(len(chosen), 1, generator=random) < 0.5
        column = torch.where(mirrored, column.flip(1), column)
        crop = padded[chosen[:, None, None], 0, row[:, :, None], column[:, None, :]]
        yield normalized(crop[:, None]), images.labels[chosen]


def accuracy(module: nn.Module, images: Images, batch: int = 500) -> float:
    """Top-1 in per cent, in float32; the module goes back to the mode it was in."""
    training = module.training
    module.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            right += int((module(images.normalized(part)).argmax(1) == images.labels[part]).sum())
    module.train(training)
    return 100 * right / len(images)


def save(recipe: Recipe, module: nn.Module, top1: float) -> None:
    """Write the checkpoint: the state in one safetensors file, what made it in the header."""
    recipe.file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"recipe": json.dumps(asdict(recipe)), "top1": f"{top1:.2f}", "torch": torch.__version__, "data": "Fashion-MNIST"}
    partial = recipe.file.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, partial, metadata=metadata)
    partial.replace(recipe.file)


def restored(recipe: Recipe) -> tuple[nn.Module, float] | None:
    """The network in evaluation mode and its top-1 where its checkpoint is there, in the cache or in WEIGHTS, made by the same recipe."""
    found = next((file for file in (recipe.file, WEIGHTS / recipe.file.name) if file.is_file()), None)
    if found is None:
        return None
    with safe_open(found, "pt") as file:
        metadata: dict[str, str] = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    made: dict[str, Any] = json.loads(metadata["recipe"])
    if made != asdict(recipe):
        raise SystemExit(f"{found} was made by another recipe, {made}, than asked for, {asdict(recipe)}: delete it to train anew")
    module = build(recipe.network, recipe.macs)
    module.load_state_dict(state)
    return module.eval(), float(metadata["top1"])


def trained(recipe: Recipe, report: Callable[[str], None] = print) -> tuple[nn.Module, float]:
    """From the cache, or trained now and put there."""
    found = restored(recipe)
    if found is None:
        found = train(recipe, fashion_mnist("train"), fashion_mnist("t10k"), report)
        save(recipe, *found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--macs", type=float, default=1.0, help="share of the full network's multiply-accumulates: a narrower network")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe(args.network, args.macs, args.seed, args.epochs)
    try:
        _, top1 = trained(recipe, lambda line: print(line, flush=True))
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None
    print(f"{top1:.2f} % top-1, kept in {recipe.file}")


if __name__ == "__main__":
    main()
