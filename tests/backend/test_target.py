"""A kind of target without kernels refuses every graph by one sentence."""

from __future__ import annotations

import pytest
from runtime_models import TwoHeads, traced

import tersor
from tersor.backend.pipelines import PIPELINES, resume
from tersor.backend.target import resolve
from tersor.ir.errors import UnsupportedError

NO_KERNELS = r"^target 'opencl': Tersor has no kernels for opencl yet; kinds of target with kernels: cpu$"


def test_opencl_is_known_and_refuses_everything() -> None:
    target = resolve("opencl")
    assert target.kind == "opencl" and not PIPELINES[target.kind]
    with pytest.raises(UnsupportedError, match=NO_KERNELS):
        tersor.compile(traced(TwoHeads), target="opencl")
    with pytest.raises(UnsupportedError, match=NO_KERNELS):
        resume(traced(TwoHeads), "legalize", target)


def test_an_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(tersor.TersorError, match=r"unknown target 'vulkan'; valid: cpu .*arm64:.*opencl"):
        resolve("vulkan")


def test_every_kind_has_a_pipeline() -> None:
    assert {resolve(name).kind for name in ("cpu", "cpu:x86-64-v3", "arm64:cortex-a72", "opencl")} == set(PIPELINES)
