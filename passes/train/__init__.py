"""Training: a graph as a torch module, and fine-tuning as a pass."""

from .finetune import Finetune

__all__ = ["Finetune"]
