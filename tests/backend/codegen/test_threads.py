"""Threads as a team: how a kernel's statements become parts, and that threads that go through a model together see what the others wrote."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tvm
from backend_run import Compiled, arrays_for, graph_of, reference
from tvm import ir as tir_ir
from tvm import tirx as t

import tersor
from tersor.backend.codegen import threads
from tersor.backend.codegen.builder import Builder, const
from tersor.backend.runtime.native import runtime
from tersor.backend.target import resolve
from tersor.ir.op import Const, Value
from tersor.ir.ops import AvgPool2d, Conv2d, IndexSelect, Relu, Softmax

THREADS = 3


def builder(team: int = THREADS) -> tuple[Builder, object]:
    b = Builder("kernel", team=team)
    return b, b.param("x", "float32", 64)


def run(b: Builder, x: np.ndarray, threads: int) -> None:
    """Every part for every thread, one after the other."""
    kernel, part, worker = tir_ir.GlobalVar("kernel"), t.Var("part", "int32"), t.Var("worker", "int32")
    port = t.decl_buffer((64,), "float32", "x", data_alignment=64)
    where, function = [part, worker] if threads > 1 else [], b.function()
    call = t.Evaluate(tir_ir.Call(kernel, [port.data, *where], ret_ty=tir_ir.PrimType("int32")))
    loops = t.For(worker, t.IntImm("int32", 0), t.IntImm("int32", threads), t.ForKind.SERIAL, call)
    main = t.PrimFunc([port], t.For(part, t.IntImm("int32", 0), t.IntImm("int32", b.phases or 1), t.ForKind.SERIAL, loops))
    main = main.with_attr("global_symbol", "main").with_attr("s_tir", True)
    module = tvm.compile(tvm.IRModule({kernel: function, tir_ir.GlobalVar("main"): main}), target="llvm")
    given = tvm.runtime.tensor(x)
    module["main"](given)
    x[...] = given.numpy()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 64])
def test_a_parallel_loop_is_done_once(count: int) -> None:
    b, x = builder()
    with b.loop("i", 0, count, "parallel") as i:
        b.store(x, i, b.load(x, i) + const(1.0))
    given = np.zeros(64, np.float32)
    run(b, given, THREADS)
    assert b.phases == 1
    np.testing.assert_array_equal(given, np.arange(64) < count)


def test_what_stands_between_parallel_loops_is_the_first_threads() -> None:
    b, x = builder()
    with b.loop("i", 0, 8, "parallel") as i:
        b.store(x, i, b.load(x, i) + const(1.0))
    first = b.value(b.load(x, 0) * const(2.0))  # a name: every thread has it, in every part
    b.store(x, 8, b.load(x, 8) + first)
    with b.loop("j", 9, 12) as j:
        b.store(x, j, b.load(x, j) + b.load(x, 8))
    with b.loop("k", 0, 64, "parallel") as k:
        b.store(x, k, b.load(x, k) * const(3.0))
    given = np.zeros(64, np.float32)
    run(b, given, THREADS)
    assert b.phases == 3
    wanted = np.zeros(64, np.float32)
    wanted[:8], wanted[8:12] = 3, 6
    np.testing.assert_array_equal(given, wanted)


def test_arrays_of_a_threads_own_are_filled_by_every_thread() -> None:
    """Partial sums of each thread, joined by all of them, and the join read in the next parallel loop."""
    b, x = builder()
    with b.loop("i", 0, THREADS, "parallel") as i:
        b.store(x, i, t.Cast("float32", i) + const(1.0))
    b.store(x, 60, const(5.0))
    total = b.local(1)
    b.store(total, 0, const(0.0))
    with b.loop("j", 0, THREADS) as j:
        b.store(total, 0, b.load(total, 0) + b.load(x, j))
    last = b.let("last", b.load(x, 60))
    b.store(x, 61, last + const(1.0))
    with b.loop("k", 0, 8, "parallel") as k:
        b.store(x, k + 8, b.load(total, 0) + last)
    given = np.zeros(64, np.float32)
    run(b, given, THREADS)
    assert b.phases == 4
    np.testing.assert_array_equal(given[8:16], np.full(8, 1 + 2 + 3 + 5))
    assert given[61] == 6


def test_a_kernel_without_parallel_loops_may_do_both_at_once() -> None:
    b, x = builder()
    total = b.local(1)
    b.store(total, 0, const(0.0))
    with b.loop("i", 0, 4) as i:
        b.store(x, i, const(2.0))
        b.store(total, 0, b.load(total, 0) + b.load(x, i))
    b.store(x, 4, b.load(total, 0))
    given = np.zeros(64, np.float32)
    run(b, given, THREADS)
    np.testing.assert_array_equal(given[:5], [2, 2, 2, 2, 8])


def test_one_with_parallel_loops_may_not() -> None:
    b, x = builder()
    total = b.local(1)
    with b.loop("i", 0, 8, "parallel") as i:
        b.store(x, i, const(2.0))
    with b.loop("j", 0, 4) as j:
        b.store(x, j, const(2.0))
        b.store(total, 0, b.load(x, j))
    with pytest.raises(ValueError, match="writes both to memory and to a thread-private array"):
        b.function()


def test_a_kernel_without_parallel_loops_is_one_part() -> None:
    b, x = builder()
    b.store(x, 0, b.load(x, 0) + const(1.0))
    with b.loop("i", 1, 3) as i:
        b.store(x, i, b.load(x, i) + const(1.0))
    given = np.zeros(64, np.float32)
    run(b, given, THREADS)
    assert b.phases == 1
    np.testing.assert_array_equal(given, np.arange(64) < 3)


def test_only_outermost_loops_are_shared_out() -> None:
    b, _ = builder()
    with (
        b.loop("i", 0, 4),
        pytest.raises(ValueError, match="the parallel loop 'j' of kernel lies within another statement"),
        b.loop("j", 0, 4, "parallel"),
    ):
        pass


@pytest.mark.parametrize("lo, hi", [(1, 4), (0, t.Var("n", "int32"))])
def test_only_loops_from_0_to_a_known_number_are_shared_out(lo: int, hi: object) -> None:
    b, _ = builder()
    with pytest.raises(ValueError, match="the parallel loop 'i' of kernel must count from 0 to a known number, got"), b.loop("i", lo, hi, "parallel"):
        pass


@pytest.mark.parametrize("team", [1, THREADS])
def test_loops_whose_bounds_are_those_of_others(team: int) -> None:
    """Three deep, none from 0, each between bounds that the one around it gives."""
    b, x = builder(team)
    with (
        b.loop("i", 0, 5, "parallel") if team > 1 else b.loop("i", 2, 5) as i,
        b.loop("j", i * 4, i * 4 + 4) as j,
        b.loop("k", j * 3, t.min(j * 3 + 3, 58)) as k,
    ):
        b.store(x, k, b.load(x, k) + const(1.0))
    given = np.zeros(64, np.float32)
    run(b, given, team)
    first = 0 if team > 1 else 24
    np.testing.assert_array_equal(given, (np.arange(64) >= first) & (np.arange(64) < 58))


def mixing(x: Value) -> Iterator[Value]:
    """Layers that read what other threads wrote: rows turned round, all channels summed, a softmax over a whole row."""
    rng = np.random.default_rng(0)
    w = Const((rng.standard_normal((24, 24, 3, 3)) / 15).astype(np.float32))
    turned = Const(np.arange(x.shape[2])[::-1].copy())
    y = x
    for i in range(6):
        y = Relu(Conv2d(IndexSelect(y, turned, 2).out, w, padding=(1, 1, 1, 1)).out).out
        y = AvgPool2d(y, (3, 3), stride=(1, 1), padding=(1, 1, 1, 1)).out
        if i % 2:
            y = Softmax(y, 3).out
    return y


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_together_see_what_the_others_wrote(threads: int) -> None:
    """Many times, on more threads than there may be processors; the same as part by part, to the last bit."""
    graph = graph_of(mixing, (1, 24, 13, 11))
    compiled = Compiled(graph, threads=threads)
    given = arrays_for(graph)
    wanted = compiled.run(given, team=False)
    np.testing.assert_allclose(wanted[0], reference(graph, given)[0], atol=1e-5)
    for _ in range(100):
        for got, same in zip(compiled.run(given, team=True), wanted, strict=True):
            np.testing.assert_array_equal(got, same)


def test_a_thread_that_waits_long_lets_others_run() -> None:
    """Twice as many callers as processors, each with a team of its own: all come to an end."""
    exe, callers = tersor.compile(graph_of(mixing, (1, 24, 13, 11)), threads=2), 2 * (os.cpu_count() or 1)
    (given,) = arrays_for(graph_of(mixing, (1, 24, 13, 11)))
    wanted = exe(given)

    def call() -> list[np.ndarray]:
        return [exe(given) for _ in range(20)]

    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(call) for _ in range(callers)]:
            for got in done.result():
                np.testing.assert_array_equal(got, wanted)


def test_counters_may_hold_anything_before() -> None:
    graph = graph_of(mixing, (1, 24, 13, 11))
    compiled = Compiled(graph, threads=2)
    given = arrays_for(graph)
    wanted = compiled.run(given, team=False)
    for seed in range(5):
        arena = tvm.runtime.tensor(np.random.default_rng(seed).integers(0, 256, compiled.arena.shape[0], np.uint8))
        np.testing.assert_array_equal(compiled.run(given, team=True, arena=arena)[0], wanted[0])


def test_counters_lie_apart() -> None:
    assert threads.counters_size(1) == 0
    assert threads.counters_size(2) >= 2 * 64
    one, two = (Compiled(graph_of(lambda x: Relu(x).out, (1, 24, 13, 11)), threads=n) for n in (1, 2))
    assert two.arena.shape[0] - max(one.arena.shape[0], 64) >= threads.counters_size(2) - 64


def test_how_many_are_there() -> None:
    """A model may go through its steps together only where its threads are."""
    said: list[bool] = []

    def ask() -> None:
        pool = runtime().threads
        pool.expect(2)
        said.extend([pool.use(1), pool.use(2), pool.use(pool._most + 1)])

    with pytest.warns(UserWarning, match="pool of"):
        asker = threading.Thread(target=ask)
        asker.start()
        asker.join()
    assert said == [False, True, False]


def test_both_architectures_have_words_for_it() -> None:
    """Counters are read and written in order: acquire and release, which on ARM are instructions of their own."""
    for name, wanted in (("cpu:x86-64-v3", ["pause"]), ("arm64:cortex-a72", ["ldar", "stlr", "yield"])):
        target = resolve(name)
        function = threads.barrier(target, 2).with_attr("global_symbol", "meet")
        module = tvm.compile(tvm.IRModule({"meet": function}), target=target.tvm()).mod
        text = module.inspect_source("asm")
        assert all(word in text for word in wanted), text
