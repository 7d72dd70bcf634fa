"""Facts of a template describe its own `emit`: a class that writes other code starts from the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from tersor.backend.codegen.kernel_builder import KernelBuilder
from tersor.backend.kernels.cpu.conv.gemm import Gemm
from tersor.backend.kernels.template import FACTS, Template


def test_a_class_with_code_of_its_own_inherits_no_fact() -> None:
    class Other(Gemm):
        def emit(self, k: KernelBuilder) -> None: ...

    assert Gemm.strided_batch and Gemm.masked_stores and Gemm.prefetches_next_weights
    assert all(Other.__dict__[fact] is Template.__dict__[fact] for fact in FACTS)
    assert Other.candidates is Gemm.candidates, "what is no fact is inherited"


def test_what_it_states_is_kept_and_a_class_without_code_inherits() -> None:
    class Masked(Gemm):
        masked_stores = True

        def emit(self, k: KernelBuilder) -> None: ...

    class Renamed(Gemm):
        name = "renamed"

    assert Masked.masked_stores and not Masked.strided_batch
    assert Renamed.strided_batch and Renamed.row_partitioned is Gemm.row_partitioned


def test_the_defaults_are_those_of_a_copy() -> None:
    class Nothing(Template):
        name = "nothing"

    fusion: Any = None
    template = Nothing()
    assert template.candidates(fusion, fusion, 1) == [{}] and template.pack(fusion, fusion, {}) == {} and template.scratch(fusion, fusion, {}, 1) == 0
    with pytest.raises(NotImplementedError, match="template 'nothing' defines no emit"):
        template.emit(fusion)
