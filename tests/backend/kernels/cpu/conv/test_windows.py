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


def test_winograd_spreads_within_a_tile_and_relative_to_its_largest_value() -> None:
    """What docs/numerics.md says of F(4x4, 3x3): tiles that read the pixel, and 1e-7 of the value times a small factor."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(32, 32, 3, padding=1).eval(), torch.randn(1, 32, 16, 16)
    exe = tersor.compile(tersor.trace(layer, (x,)), winograd=4, tuned=False)
    assert "winograd" in {step.template for step in exe.entries[0].steps}
    usual = np.asarray(exe(x))
    # the tile of rows and columns 8 to 11 reads the pixel in its middle, and no other does
    own = np.zeros((16, 16), bool)
    own[8:12, 8:12] = True
    for value in (np.nan, np.inf):
        x[0, 1, 9, 9] = value
        missing = ~np.isfinite(np.asarray(exe(x))[0]).all(0)
        assert missing[8:11, 8:11].all() and not missing[~own].any()
    for value in (1e5, 1e9):
        x[0, 1, 9, 9] = value
        error = np.abs(np.asarray(exe(x)) - usual)[0]
        assert error[:, ~own].max() == 0
        assert error[:, 11].max() < 1e-7 * value


def test_upsampled_doubles_read_two_pixels_along_each_axis() -> None:
    x = torch.ones(1, 2, 5, 6, dtype=torch.float64)
    layer = nn.Upsample(scale_factor=2, mode="bilinear")
    exe = tersor.compile(tersor.trace(layer, (x,)))
    x[0, 1, 2, 3] = np.nan
    np.testing.assert_array_equal(np.isnan(np.asarray(exe(x))), layer(x).isnan().numpy())
