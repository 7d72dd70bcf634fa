"""The state of a training run and its checkpoint: all that a killed run needs to end with the same weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...ir.errors import TersorError

#: The format tag of a checkpoint file.
FORMAT = "tersor finetune 1"
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Epoch:
    """One epoch's row in the ledger.

    lr: of its last step. loss: mean over its examples. accuracy: share of the training labels that were right, before each step.
    validation: accuracy on the examples held out, or what `evaluate` gave. stopped: why training ended early with it, if it did.
    """

    epoch: int
    steps: int
    lr: float
    loss: float
    accuracy: float | None = None
    validation: float | None = None
    stopped: str = ""


@dataclass
class State:
    """epoch, step: complete epochs, and steps of the running one. done: steps in all. seen, loss, right: sums of the running epoch.

    ema: averaged weights. good: weights at the end of the last complete epoch. best: weights at the best validation, which was `top`,
    `stale` epochs ago. finished: training is over.
    """

    epoch: int = 0
    step: int = 0
    done: int = 0
    seen: float = 0.0
    loss: float = 0.0
    right: float | None = None
    epochs: list[Epoch] = field(default_factory=list)
    ema: Weights | None = None
    good: Weights | None = None
    best: Weights | None = None
    top: float | None = None
    stale: int = 0
    finished: bool = False


def copied(weights: Mapping[str, torch.Tensor]) -> Weights:
    return {name: w.detach().clone() for name, w in weights.items()}


def save_checkpoint(path: Path, made_by: str, state: State, module: Weights, optimizer: Mapping[str, Any]) -> None:
    """Write a temporary file and rename it, so that a kill leaves the old checkpoint or the new one."""
    epochs = [asdict(e) for e in state.epochs]
    content = {"format": FORMAT, "made_by": made_by, "state": vars(state) | {"epochs": epochs}, "module": module, "optimizer": optimizer}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(content, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise TersorError(f"cannot write the checkpoint {path}: {error}") from None


def load_checkpoint(path: Path, made_by: str, device: torch.device) -> tuple[State, Weights, dict[str, Any]] | None:
    """The state, the weights and the optimizer of a checkpoint; None where there is no file. Raises for a checkpoint of another training."""
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if content["format"] != FORMAT:
            raise KeyError
    except Exception as error:
        raise TersorError(f"{path} is not a checkpoint of finetune ({type(error).__name__}): name another file, or delete it") from None
    if content["made_by"] != made_by:
        raise TersorError(
            f"the checkpoint {path} is of another training:\n  there {content['made_by']}\n  here  {made_by}\nname another file, or delete it"
        )
    state = State(**content["state"] | {"epochs": [Epoch(**e) for e in content["state"]["epochs"]]})
    return state, content["module"], content["optimizer"]
