"""Targets by name, and that each kind has stages."""

from __future__ import annotations

import pytest
from runtime_models import TwoHeads, traced

import tersor
from tersor.backend.pipelines import PIPELINES
from tersor.backend.target import resolve


def test_an_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(tersor.TersorError, match=r"unknown target 'vulkan'; valid: cpu .*arm64:.*opencl, cuda:sm_"):
        resolve("vulkan")
    with pytest.raises(tersor.TersorError, match=r"unknown target 'cuda:90'; valid: .*cuda:sm_90"):
        resolve("cuda:90")


def test_every_kind_has_a_pipeline() -> None:
    names = ("cpu", "cpu:x86-64-v3", "arm64:cortex-a72", "opencl", "cuda:sm_80")
    assert {resolve(name).kind for name in names} == set(PIPELINES)
    assert all(PIPELINES.values())


def test_a_gpu_has_no_threads() -> None:
    with pytest.raises(tersor.TersorError, match="threads are those of a CPU, got 2 for target 'opencl'"):
        tersor.compile(traced(TwoHeads), target="opencl", threads=2)
