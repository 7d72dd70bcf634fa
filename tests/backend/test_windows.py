"""A pixel that is NaN, infinite or very large reaches the results that read it, and no others: convolutions without Winograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tersor

LAYERS = {
    "conv": nn.Conv2d(32, 24, 3, padding=1),
    "dilated": nn.Conv2d(32, 16, 3, padding=2, dilation=2),
    "depthwise": nn.Conv2d(32, 32, 3, 2, 1, groups=32),
    "groups of whole vectors": nn.Conv2d(64, 64, 3, padding=1, groups=2),
    "transposed": nn.ConvTranspose2d(32, 32, 3, 2, 1),
    "transposed, uneven": nn.ConvTranspose2d(32, 3, (5, 4), (3, 2), 1, output_padding=1),
    "transposed, depthwise": nn.ConvTranspose2d(32, 32, 3, 2, 1, groups=32),
    "transposed, groups": nn.ConvTranspose2d(32, 32, 3, 2, 1, groups=2),
    "transposed, dilated": nn.ConvTranspose2d(32, 16, 3, 2, 1, dilation=2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_pixel_stays_in_its_window(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name].eval()
    x = torch.randn(1, layer.in_channels, 9, 11)
    exe = tersor.compile(tersor.trace(layer, (x,)), winograd=0)
    with torch.no_grad():
        usual = layer(x).numpy()
        for value in (np.nan, np.inf, 1e9):
            x[0, 5, 4, 6] = value
            wanted, got = layer(x).numpy(), np.asarray(exe(x))
            untouched = wanted == usual
            assert untouched.any() and not untouched.all()
            np.testing.assert_allclose(got[untouched], usual[untouched], rtol=0, atol=1e-5)
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(wanted))
