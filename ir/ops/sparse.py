"""Masked weights and weights that share a codebook: unstructured pruning and weight sharing during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..types import Tensor
from .check import floats

if TYPE_CHECKING:
    import torch


class Masked(Op, name="sparse.masked"):
    """w where mask, else 0; the gradient of a weight that is masked out is 0, so training leaves it.

    Where `sparsity` is above 0 the mask is not final: `finetune` raises the share of zeros to it by the cubic schedule of Zhu and Gupta
    (1710.01878), every `every` steps between the fractions `begin` and `end` of all steps. whole: one threshold for all such weights of a
    graph. block: weights are pruned in blocks (rows, columns) of the matrix (outputs, everything else).
    """

    w: Value
    mask: Value
    sparsity: float = 0.0
    begin: float = 0.0
    end: float = 0.75
    every: int = 100
    whole: bool = False
    block: tuple[int, int] = (1, 1)

    learned = ("w",)

    def infer(self) -> Tensor:
        floats(self, "w")
        if self.mask.type.elem != "bool" or self.mask.shape != self.w.shape:
            raise self.fail(f"mask must be booleans of the shape of w {list(self.w.shape)}, got {self.mask.type}")
        if not 0 <= self.sparsity < 1:
            raise self.fail(f"sparsity must be from 0 to below 1, got {self.sparsity}")
        if not 0 <= self.begin <= self.end <= 1:
            raise self.fail(f"begin and end are shares of the steps, 0 <= begin <= end <= 1; got {self.begin} and {self.end}")
        if self.every < 1 or min(self.block) < 1:
            raise self.fail(f"every and block must be at least 1, got {self.every} and {list(self.block)}")
        return self.w.type

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].masked_fill(xs[1] == 0, 0)
        return y


class Shared(Op, name="sparse.shared"):
    """w[i] = codebook[index[i] - 1], and 0 where the index is 0.

    The gradient of an entry of the codebook is the sum of those of the weights that share it (Han et al., 1510.00149, section 3.3).
    codebook (K,) in floats; index u8, from 0 to K, of the shape of the result.
    """

    codebook: Value
    index: Value

    learned = ("codebook",)

    def infer(self) -> Tensor:
        elem = floats(self, "codebook")
        if self.codebook.type.rank != 1 or self.codebook.shape[0] > 255:
            raise self.fail(f"codebook must be a vector of at most 255 values, got {self.codebook.type}")
        if self.index.type.elem != "u8":
            raise self.fail(f"index must be u8, got {self.index.type}")
        return Tensor(self.index.shape, elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        codebook, index = xs
        y: torch.Tensor = torch.cat([codebook.new_zeros(1), codebook])[index.long()]
        return y
