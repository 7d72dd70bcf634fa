"""The training loss: cross-entropy with the labels, and the distance to a teacher (Hinton et al., 1503.02531)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ...ir.errors import TersorError
from .data import Batch

Teacher = Callable[..., Any]


@dataclass(frozen=True)
class Loss:
    """(1 - weight) CE(labels) + weight T^2 KL(teacher_T || student_T),   q_T = softmax(z / T)

    Logits are (N, classes, ...), labels (N, ...). KL and CE are means over examples (and positions). smoothing: of the labels.
    """

    weight: float
    temperature: float
    smoothing: float
    teacher: Teacher | None

    def __call__(self, student: Teacher, batch: Batch) -> tuple[torch.Tensor, float | None]:
        """The loss of a batch and how many of its labels are right (None without labels)."""
        logits = logits_of(student(*batch.inputs), "the graph")
        loss = torch.zeros((), device=logits.device)
        if self.weight < 1:
            loss = loss + (1 - self.weight) * F.cross_entropy(logits.float(), self._labels(batch, logits), label_smoothing=self.smoothing)
        if self.weight > 0 and self.teacher is not None:
            loss = loss + self.weight * self._distance(batch, logits)
        return loss, None if batch.labels is None else right(logits, check_labels(batch.labels, logits))

    def _labels(self, batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        if batch.labels is None:
            raise TersorError(
                "the training data has no labels, which only distillation alone (distill_weight=1) can do without: give (inputs, labels)"
            )
        return check_labels(batch.labels, logits)

    def _distance(self, batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        assert self.teacher is not None
        with torch.no_grad():
            wanted = logits_of(self.teacher(*batch.inputs), "the teacher")
        if wanted.shape != logits.shape:
            raise TersorError(f"the teacher gives logits of shape {list(wanted.shape)}, the graph of shape {list(logits.shape)}: expected the same")
        return self.temperature**2 * kl_divergence(wanted.float() / self.temperature, logits.float() / self.temperature)


def kl_divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """sum over classes of p (log p - log q), mean over examples and positions; p, q the softmax of logits (N, classes, ...)."""
    p, q = F.log_softmax(teacher, 1), F.log_softmax(student, 1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1).mean()


def check_labels(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Labels that fit the logits: one for each example or position, each the number of a class."""
    if labels.shape != (expected := (logits.shape[0], *logits.shape[2:])):
        raise TersorError(f"logits of shape {list(logits.shape)} need labels of shape {list(expected)}, got {list(labels.shape)}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise TersorError(
            f"labels must be from 0 to {logits.shape[1] - 1}, for the graph gives {logits.shape[1]} logits; got {low if low < 0 else high}"
        )
    return labels


def right(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """How many examples have their label as the largest logit (with several positions, the mean over them)."""
    return float((logits.detach().argmax(1) == labels).double().reshape(len(labels), -1).mean(1).sum())


def logits_of(result: Any, who: str) -> torch.Tensor:
    """The one output (N, classes, ...), whatever structure it is in."""
    found = list(_leaves(result))
    if len(found) != 1 or found[0].dim() < 2 or not found[0].is_floating_point():
        shapes = ", ".join(str(list(x.shape)) for x in found) or "none"
        raise TersorError(
            f"training needs one output of logits (N, classes, ...), and {who} gives {shapes}; train others in a loop on to_torch(graph)"
        )
    return found[0]


def _leaves(result: Any) -> Sequence[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, list | tuple) else ()
    return [leaf for part in parts for leaf in _leaves(part)]
