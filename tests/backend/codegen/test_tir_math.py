"""`TirMath` function by function against numpy and torch in float64: dense grids, random bit patterns, special values."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from backend_run import TARGETS
from tvm import ir, tirx

from tersor.backend.codegen.builder import TIR_DTYPE, Builder
from tersor.backend.codegen.tir_math import TirMath
from tersor.backend.target import resolve
from tersor.ir.ops.namespace import TorchMath

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754944e-38, 3.4e38, -3.4e38]
SPECIAL += [88.7, 88.8, -87.4, -103.9, -104.1, 0.5, -2.0, 3.0]


def compiled(f: Callable[..., Any], size: int, dtypes: tuple[str, ...], out: str, target: str, lanes: int | None = None) -> Any:
    """out[i] = f(m, a[i], b[i], …), by vectors of the target's width."""
    facts = resolve(target)
    lanes = lanes or facts.lanes
    b = Builder("kernel")
    arguments = [b.param(f"a{i}", d, size) for i, d in enumerate(dtypes)]
    result = b.param("out", out, size)
    with b.loop("i", 0, size // lanes) as i:
        b.store(result, i * lanes, b.value(f(TirMath(b), *(b.load(a, i * lanes, lanes) for a in arguments))), lanes)
    ports = [tirx.decl_buffer((size,), d, f"p{i}", data_alignment=64) for i, d in enumerate((*dtypes, out))]
    kernel = ir.GlobalVar("kernel")
    call = tirx.Evaluate(ir.Call(kernel, [p.data for p in ports], ret_ty=ir.PrimType("int32")))
    main = tirx.PrimFunc(ports, call).with_attr("global_symbol", "main").with_attr("s_tir", True)
    module = tvm.IRModule({kernel: b.function(), ir.GlobalVar("main"): main})
    with tvm.transform.PassContext(opt_level=3):
        return tvm.compile(module, target=facts.tvm(1)).mod


def apply(f: Callable[..., Any], *arrays: np.ndarray, out: str | None = None, target: str = "cpu", lanes: int | None = None) -> np.ndarray:
    size = arrays[0].size
    padded = [np.concatenate([a, np.ones(-size % 64, a.dtype)]) for a in arrays]
    dtypes = tuple(str(a.dtype) for a in arrays)
    library = compiled(f, padded[0].size, dtypes, out or dtypes[0], target, lanes)
    result = tvm.runtime.tensor(np.zeros(padded[0].size, out or dtypes[0]))
    library["main"](*(tvm.runtime.tensor(a) for a in padded), result)
    return result.numpy()[:size]


@cache
def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Random bits (all magnitudes, NaN and infinities among them), special values, and dense grids where the functions bend."""
    bits = np.random.default_rng(0).integers(0, 2**32, 1 << 17, dtype=np.uint64).astype(np.uint32).view(np.float32)
    grids = [np.linspace(a, b, 1 << 15) for a, b in ((-106, 92), (-1, 1), (-5, 5), (0.5, 2), (-20, 20))]
    return np.concatenate([np.array(SPECIAL), *grids]).astype(np.float32), bits


def relative_error(got: np.ndarray, wanted: np.ndarray, smallest: float) -> float:
    """max |got - wanted| / max(|wanted|, smallest), after what is not finite has been found equal."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = wanted.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    assert np.isfinite(got[finite]).all()
    return float(np.max(np.abs(got[finite] - wanted[finite]) / np.maximum(np.abs(wanted[finite]), smallest)))


ORACLES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "log10": torch.log10,
    "sigmoid": torch.sigmoid,
}
#: 1/2 ulp of f32 is 6e-8. erf without fused multiply-add (x86-64-v2) is the worst.
BOUNDS = {
    "exp": 1.0e-7,
    "log": 1.0e-7,
    "tanh": 2.0e-7,
    "erf": 4.6e-7,
    "sigmoid": 2.0e-7,
    "expm1": 2.0e-7,
    "log1p": 2.0e-7,
    "log2": 6e-8,
    "log10": 6e-8,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", list(ORACLES))
def test_relative_error(name: str, target: str) -> None:
    x = np.concatenate(inputs())
    with np.errstate(invalid="ignore"):
        x64 = torch.from_numpy(x.astype(np.float64))
    wanted = ORACLES[name](x64).numpy()
    got = apply(lambda m, v: getattr(m, name)(v), x, target=target)
    # below the smallest normal number the bound is absolute; sigmoid gives 0 there
    assert relative_error(got, wanted, 2.0**-126 * (2**24 if name == "sigmoid" else 1)) < BOUNDS[name]


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "acosh", "atanh"])
def test_functions_of_the_c_library(name: str) -> None:
    """Rounded from f64: angles of any size, both ends of every domain."""
    x = np.concatenate([part[::8] for part in inputs()])
    with np.errstate(invalid="ignore"):
        wanted = getattr(torch, name)(torch.from_numpy(x.astype(np.float64))).numpy()
    assert relative_error(apply(lambda m, v: getattr(m, name)(v), x), wanted, 2.0**-126) < 6.1e-8


def test_exp_of_negative_numbers() -> None:
    x = -np.abs(np.concatenate(inputs()))
    got = apply(lambda m, v: m.exp_negative(v), x)
    with np.errstate(invalid="ignore"):
        wanted = np.exp(x.astype(np.float64))
    normal = wanted > 2.0**-126
    assert np.max(np.abs(got[normal] / wanted[normal] - 1)) < 1e-7
    assert (got[wanted < 2.0**-127] == 0).all()
    assert np.isnan(got[np.isnan(x)]).all()


def test_scalars_compute_the_same_as_vectors() -> None:
    x = np.linspace(-9, 9, 64).astype(np.float32)
    for name in ORACLES:
        a, b = (apply(lambda m, v, name=name: getattr(m, name)(v), x, lanes=lanes) for lanes in (1, 16))
        np.testing.assert_allclose(a, b, rtol=2e-7)


@pytest.mark.parametrize("name", list(ORACLES))
def test_no_call_of_the_c_library(name: str) -> None:
    library = compiled(lambda m, v: getattr(m, name)(v), 64, ("float32",), "float32", "cpu")
    assembly = library.inspect_source("asm")
    assert "ps" in assembly and not any(f"{name}f" in line and "call" in line for line in assembly.splitlines())


@pytest.mark.parametrize("dtype, bound", [("float16", 6e-4), ("float64", 1e-15)])
def test_other_floats(dtype: str, bound: float) -> None:
    x = np.linspace(-6, 6, 256).astype(dtype)
    for name, oracle in ORACLES.items():
        v = np.abs(x) + 1 if name.startswith("log") else x
        wanted = oracle(torch.from_numpy(v.astype(np.float64))).numpy()
        got = apply(lambda m, v, name=name: getattr(m, name)(v), v).astype(np.float64)
        assert np.max(np.abs(got - wanted) / np.maximum(np.abs(wanted), 1e-3)) < bound, name


@pytest.mark.parametrize("target", TARGETS)
def test_power(target: str) -> None:
    pairs = np.array(list(itertools.product([*SPECIAL, 2.5, 1.0000001, 0.1], [*SPECIAL, 2.0, 7.0, -3.0, 0.3333, 1e9])), np.float32)
    rng = np.random.default_rng(1)
    random = np.stack([np.exp(rng.uniform(-20, 20, 4096)), rng.uniform(-4, 4, 4096)], 1).astype(np.float32)
    a, b = np.concatenate([pairs, random]).T.copy()
    wanted = torch.pow(torch.from_numpy(a.astype(np.float64)), torch.from_numpy(b.astype(np.float64))).numpy()
    got = apply(lambda m, x, y: m.pow(x, y), a, b, target=target)
    assert relative_error(got, wanted, 2.0**-126) < 7e-8
    np.testing.assert_array_equal(np.signbit(got[wanted == 0]), np.signbit(wanted[wanted == 0]))


def test_integer_power() -> None:
    a, b = np.array(list(itertools.product(range(-6, 7), range(-3, 8))), np.int64).T.copy()
    wanted = [0 if y < 0 and abs(x) != 1 else int(float(x) ** y) for x, y in zip(a.tolist(), b.tolist()) if x or y >= 0]
    kept = (a != 0) | (b >= 0)
    np.testing.assert_array_equal(apply(lambda m, x, y: m.pow(x, y), a, b)[kept], wanted)
    x, y = a[b >= 0].astype(np.uint8), b[b >= 0].astype(np.uint8)
    np.testing.assert_array_equal(apply(lambda m, x, y: m.pow(x, y), x, y), x**y)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int8"])
def test_remainder_has_the_divisors_sign(dtype: str) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.uniform(-100, 100, 1024).astype(dtype), rng.uniform(-10, 10, 1024).astype(dtype)
    b[b == 0] = 3
    if dtype.startswith("float"):
        a[:8], b[:8] = [5, -5, -5, np.inf, 7, -1e-7, 6e4, -6e4], [np.inf, np.inf, -np.inf, 3, 0, 1, 1e-4, 1e-4]
    wanted = torch.remainder(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(apply(lambda m, x, y: m.mod(x, y), a, b), wanted)
    wanted = torch.div(torch.from_numpy(a), torch.from_numpy(b), rounding_mode="floor").numpy()
    # torch rounds to f16 after every step
    np.testing.assert_allclose(apply(lambda m, x, y: m.floordiv(x, y), a, b), wanted, rtol=1e-3 if dtype == "float16" else 0)


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8"])
def test_integers_without_a_quotient_do_not_end_the_process(dtype: str) -> None:
    """As in numpy both are 0 for a divisor of 0; the lowest integer by -1 wraps to itself."""
    lowest = np.iinfo(dtype).min
    a, b = np.array([[x, y] for x in (5, 0, lowest) for y in (0, -1)]).astype(dtype).T.copy()
    with np.errstate(all="ignore"):
        wanted = {"mod": a % b, "floordiv": a // b}
    for name, values in wanted.items():
        np.testing.assert_array_equal(apply(lambda m, x, y, name=name: getattr(m, name)(x, y), a, b), values)


def test_remainder_of_a_quotient_with_more_digits_than_a_double() -> None:
    rng = np.random.default_rng(5)
    a, b = (np.exp(rng.uniform(-80, 80, 512)).astype(np.float32) * rng.choice([-1, 1], 512).astype(np.float32) for _ in range(2))
    wanted = [float(Fraction(x) % Fraction(y)) for x, y in zip(a.tolist(), b.tolist())]
    np.testing.assert_allclose(apply(lambda m, x, y: m.mod(x, y), a, b), np.array(wanted), rtol=1e-7, atol=0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name, oracle", [("max", torch.maximum), ("min", torch.minimum)])
def test_extremes_pass_nan_on(name: str, oracle: Callable[..., torch.Tensor], target: str) -> None:
    a, b = np.array(list(itertools.product(SPECIAL, SPECIAL)), np.float32).T.copy()
    wanted = oracle(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(apply(lambda m, x, y: getattr(m, name)(x, y), a, b, target=target), wanted)
    for constant in (0.0, 6.0):
        wanted = oracle(torch.from_numpy(a), torch.full((), constant)).numpy()
        for swapped in (False, True):
            got = apply(lambda m, x, c=constant, s=swapped: getattr(m, name)(*((m.const(x, c), x) if s else (x, m.const(x, c)))), a, target=target)
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("target", TARGETS)
def test_products_and_sums_are_not_contracted(target: str) -> None:
    rng = np.random.default_rng(3)
    a, b, c, d = (rng.standard_normal(1024).astype(np.float32) for _ in range(4))
    np.testing.assert_array_equal(apply(lambda m, x, y, z: m.mul(x, y) + z, a, b, c, target=target), a * b + c)
    np.testing.assert_array_equal(apply(lambda m, x, y, z: m.add(x * y, z), a, b, c, target=target), a * b + c)
    np.testing.assert_array_equal(apply(lambda m, x, y, z, w: m.mul(x, y) + m.mul(z, w), a, b, c, d, target=target), a * b + c * d)


def test_plain_expressions_are_contracted_where_the_processor_can() -> None:
    if "fma" not in resolve("cpu").features:
        pytest.skip("this processor has no fused multiply-add")
    a, b, c = (np.random.default_rng(4).standard_normal(1024).astype(np.float32) for _ in range(3))
    got = apply(lambda m, x, y, z: x * y + z, a, b, c)
    assert (got != a * b + c).any(), "if plain products are never contracted, the test above tests nothing"


@pytest.mark.parametrize("target", TARGETS)
def test_a_fused_multiply_add_rounds_once(target: str) -> None:
    """In torch too, where a sum in float64 that is rounded again would give other bits."""
    rng = np.random.default_rng(5)
    a, b, c = (rng.standard_normal(1024).astype(np.float32) for _ in range(3))
    c[:512] *= np.float32(2.0**-40)
    a[:2], b[:2], c[:2] = 1 + 2**-12, 1 + 2**-12, (2.0**-70, -(2.0**-70))  # a product halfway between two f32, and a grain beside it
    wanted = np.array([float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c)])
    exact = np.array([nearest_f32(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c)], np.float32)
    assert (exact != wanted.astype(np.float32)).any() and exact[0] != exact[1]
    np.testing.assert_array_equal(apply(lambda m, x, y, z: m.fma(x, y, z), a, b, c, target=target), exact)
    np.testing.assert_array_equal(TorchMath().fma(*(torch.from_numpy(v) for v in (a, b, c))).numpy(), exact)


def nearest_f32(exact: Fraction) -> np.float32:
    """Halves do not occur."""
    near = np.float32(float(exact))
    candidates = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)]
    return min([near, *candidates], key=lambda v: abs(Fraction(float(v)) - exact))


@pytest.mark.parametrize("target", TARGETS)
def test_roundings(target: str) -> None:
    x = np.concatenate([np.arange(-4, 4.25, 0.25), [2.0**23 + 1, -(2.0**24), 0.49999997, -0.0]]).astype(np.float32)
    for name, oracle in (("rint", np.rint), ("floor", np.floor), ("ceil", np.ceil), ("abs", np.abs)):
        np.testing.assert_array_equal(apply(lambda m, v, name=name: getattr(m, name)(v), x, target=target), oracle(x))
    np.testing.assert_array_equal(apply(lambda m, v: m.sqrt(m.abs(v)), x, target=target), np.sqrt(np.abs(x)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", list(TIR_DTYPE))
def test_casts(source: str, target: str) -> None:
    values = np.array([0, 1, 2, 3, 100, 127, 0.4, 0.6, 1.9, 99.99], np.float64)
    if source not in ("bool", "u8"):
        values = np.concatenate([values, -values])
    x = values.astype(TIR_DTYPE[source])
    for elem, dtype in TIR_DTYPE.items():
        wanted = torch.from_numpy(x).to(getattr(torch, dtype)).numpy()
        got = apply(lambda m, v, elem=elem: m.cast(v, elem), x, out=dtype, target=target)
        np.testing.assert_array_equal(got, wanted, err_msg=f"{source} to {elem}")


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "float16", "bool"])
def test_comparisons(dtype: str) -> None:
    values = [0, 1, 2, 5] if dtype in ("uint8", "bool") else [0, 1, -1, 5] + ([np.nan, np.inf] if dtype.startswith("float") else [])
    a, b = np.array(list(itertools.product(values, values))).astype(dtype).T.copy()
    for f, oracle in ((lambda m, x, y: x == y, np.equal), (lambda m, x, y: x != y, np.not_equal)):
        np.testing.assert_array_equal(apply(f, a, b, out="bool"), oracle(a, b))
    np.testing.assert_array_equal(apply(lambda m, x, y: m.where(x == y, x, y), a, b), np.where(a == b, a, b))
    if dtype != "bool":
        for f, oracle in ((lambda m, x, y: x < y, np.less), (lambda m, x, y: x >= y, np.greater_equal)):
            np.testing.assert_array_equal(apply(f, a, b, out="bool"), oracle(a, b))
