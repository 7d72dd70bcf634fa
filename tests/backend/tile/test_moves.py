"""The operators that legalize makes of data movement: meaning against numpy, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tersor.backend.tile.moves import AsStrided, DepthToSpace, FromNhwc, PadCrop, ToNhwc
from tersor.ir.errors import VerifyError
from tersor.ir.op import Op, Value
from tersor.ir.types import Tensor

X = np.arange(2 * 12 * 3 * 4, dtype=np.float64).reshape(2, 12, 3, 4)


def value(*shape: int) -> Value:
    return Value(Tensor(shape, "f64"))


def run(op: Op, x: np.ndarray = X) -> np.ndarray:
    y: np.ndarray = op.evaluate(torch.from_numpy(x)).numpy()
    assert y.shape == op.out.shape
    return y


def test_depth_to_space() -> None:
    y = run(DepthToSpace(value(2, 12, 3, 4), (2, 3), 1, (1, 2), (5, 10)))
    for i, j in np.ndindex(5, 10):
        p, q = (i + 1) % 2, (j + 2) % 3
        np.testing.assert_array_equal(y[:, 0, i, j], X[:, (p * 3 + q) * 2, (i + 1) // 2, (j + 2) // 3])


def test_rows() -> None:
    np.testing.assert_array_equal(run(ToNhwc(value(2, 12, 3, 4))), X.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(run(FromNhwc(value(2, 12, 3, 4))), X.transpose(0, 3, 1, 2))


def test_pixels() -> None:
    y = run(PadCrop(value(2, 12, 3, 4), (-1, 0, 2), (3, 3, 0, -1), 7.0))
    wanted = np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 1)), constant_values=7)[:, :, [0, 1, 3]][..., [3, 3, 0, 4]]
    np.testing.assert_array_equal(y, wanted)


def test_strided() -> None:
    y = run(AsStrided(value(2, 12, 3, 4), (4, 2, 3), (1, 144, 8), 13))
    np.testing.assert_array_equal(y, [[[X.flat[13 + i + 144 * j + 8 * k] for k in range(3)] for j in range(2)] for i in range(4)])


def test_what_does_not_fit() -> None:
    x = value(2, 12, 3, 4)
    with pytest.raises(VerifyError, match="12 channels must hold 5 phases"):
        DepthToSpace(x, (1, 5), 1, (0, 0), (3, 20))
    with pytest.raises(VerifyError, match="6 phases of at least 3"):
        DepthToSpace(x, (2, 3), 3, (0, 0), (6, 12))
    with pytest.raises(VerifyError, match=r"6x12 pixels from .1, 0. must lie in 6x12"):
        DepthToSpace(x, (2, 3), 2, (1, 0), (6, 12))
    with pytest.raises(VerifyError, match=r"x must be .N, H, W, C."):
        FromNhwc(value(2, 12, 3))
    with pytest.raises(VerifyError, match="rows must lie in -1 to 2"):
        PadCrop(x, (0, 3), (0,))
    with pytest.raises(VerifyError, match="columns must lie in -1 to 3"):
        PadCrop(x, (0,), (-2,))
    with pytest.raises(VerifyError, match="elements 1 to 288 must lie in x, which has 288"):
        AsStrided(x, (288,), (1,), 1)
