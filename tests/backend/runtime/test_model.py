"""CompiledModel: structure, kinds, checks, batches, threads, concurrency, measurements."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_models import Sum, TwoHeads, assert_right, compiled, flat, inputs_of, seeded, traced
from torch import nn

import tersor
from tersor import TersorError
from tersor.backend.emit.module import Constant, Weights
from tersor.backend.kernels.packed import Packed
from tersor.backend.runtime.measure import empty, peak_gflops
from tersor.backend.runtime.model import _Slot
from tersor.backend.runtime.native import address, aligned, runtime
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.ops import Linear, Softmax
from tersor.ir.types import Tensor


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_right_and_in_the_models_structure(batch: int, threads: int) -> None:
    inputs = inputs_of(TwoHeads, batch)
    result = compiled(threads=threads)(*inputs)
    assert list(result) == ["features", "heads"]
    assert isinstance(result["heads"], tuple)
    assert isinstance(result["heads"][1], list)
    assert all(isinstance(y, np.ndarray) for y in flat(result))
    assert_right(result, TwoHeads, inputs)


def test_torch_in_torch_out() -> None:
    (x,) = inputs_of(TwoHeads)
    result = compiled()(torch.from_numpy(x).requires_grad_())
    assert isinstance(result["features"], torch.Tensor)
    assert isinstance(result["heads"][1][0], torch.Tensor)
    assert not result["features"].requires_grad
    assert_right(result, TwoHeads, [x])


def test_inputs_by_name() -> None:
    left, right = inputs_of(Sum)
    exe = compiled(Sum)
    for result in (exe(left, right), exe(left, right=right), exe(right=right, left=left)):
        assert_right(result, Sum, [left, right])
    assert list(exe.inputs) == ["left", "right"]
    assert exe.inputs["left"].shape == (1, 8, 9, 11)


def at_address(x: np.ndarray, offset: int) -> np.ndarray:
    """A contiguous copy that starts `offset` bytes behind a multiple of 64."""
    copy = aligned(x.nbytes + offset)[offset:].view(x.dtype).reshape(x.shape)
    copy[...] = x
    assert copy.ctypes.data % 64 == offset
    return copy


def test_any_memory() -> None:
    (x,) = inputs_of(TwoHeads)
    read_only = x.copy()
    read_only.flags.writeable = False
    shifted, strided = [at_address(x, offset) for offset in (0, 4, 60)], [np.asfortranarray(x), np.repeat(x, 2, 3)[..., ::2]]
    reversed_twice = x[:, :, ::-1].copy()[:, :, ::-1]
    for given in (*shifted, *strided, reversed_twice, read_only):
        assert_right(compiled()(given), TwoHeads, [x])
    channels_last = torch.from_numpy(x).to(memory_format=torch.channels_last)
    assert_right(compiled()(channels_last), TwoHeads, [x])


def test_aligned_memory_is_not_copied_unless_a_vector_load_would_leave_its_page() -> None:
    slot = _Slot(compiled(Sum).entries[0], compiled(Sum)._weights)
    x, _ = inputs_of(Sum)
    memory = aligned(3 * 4096, align=4096)
    size = x.nbytes
    inner, edge = (memory[at : at + size].view(np.float32).reshape(x.shape) for at in (0, (-size % 4096) // 64 * 64))
    assert inner.ctypes.data % 64 == edge.ctypes.data % 64 == 0
    assert slot.stage(0, inner) == inner.ctypes.data
    assert slot.stage(0, edge) != edge.ctypes.data


def test_an_image_that_is_read_element_by_element_is_not_copied_wherever_it_lies() -> None:
    slot = _Slot(compiled().entries[0], compiled()._weights)
    (x,) = inputs_of(TwoHeads)
    edge = aligned(3 * 4096, align=4096)[-(-x.nbytes // 4096) * 4096 - x.nbytes :][: x.nbytes].view(np.float32).reshape(x.shape)
    edge[...] = x
    assert compiled().inputs["image"].unaligned
    for given in (edge, *(at_address(x, offset) for offset in (0, 4, 20, 60))):
        assert slot.stage(0, given) == given.ctypes.data
        assert_right(compiled()(given), TwoHeads, [x])
    for given in (at_address(x, 2), np.asfortranarray(x)):
        assert slot.stage(0, given) != given.ctypes.data
        assert_right(compiled()(given), TwoHeads, [x])


class Twice(nn.Module):
    """A convolution reads the image element by element, another kernel reads vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.conv(image), torch.relu(image)


@pytest.mark.parametrize("module", [Twice, Sum])
def test_an_input_of_which_vectors_are_read_is_copied_to_an_aligned_address(module: type[nn.Module]) -> None:
    first = torch.randn(1, *((8, 9, 11) if module is Sum else (3, 9, 11)), generator=torch.Generator().manual_seed(0))
    inputs = [first, first.flip(0)] if module is Sum else [first]
    exe = tersor.compile(tersor.trace(seeded(module), tuple(inputs)))
    assert not any(port.unaligned for port in exe.inputs.values())
    assert_right(exe(*(at_address(x.numpy(), 4) for x in inputs)), module, [x.numpy() for x in inputs])


def test_results_belong_to_the_caller() -> None:
    exe = compiled()
    first, second = inputs_of(TwoHeads, seed=1), inputs_of(TwoHeads, seed=2)
    result = exe(*first)
    kept = [y.copy() for y in flat(result)]
    other = exe(*second)
    for y, before, z in zip(flat(result), kept, flat(other)):
        assert y.flags.writeable
        np.testing.assert_array_equal(y, before)
        assert not np.shares_memory(y, z)
        y[...] = 0
    assert_right(exe(*first), TwoHeads, first)


def test_no_two_calls_share_results() -> None:
    exe, inputs = compiled(), inputs_of(TwoHeads)
    held = [y for _ in range(40) for y in flat(exe(*inputs))]
    assert len({y.ctypes.data for y in held}) == len(held)
    assert all(y.base is not None and y.base.nbytes < 2 * y.nbytes + 4096 for y in held)  # nor keeps one the memory of others
    for number, y in enumerate(held):
        y[...] = number
    assert all((y == number).all() for number, y in enumerate(held))


def test_a_call_after_single_steps_runs_all_of_them() -> None:
    exe, inputs = compiled(), inputs_of(TwoHeads)
    program, entry = exe.program(exe.entries[0]), exe.entries[0]
    with program.session(inputs, [empty(p) for p in entry.outputs]) as run:
        run(1, 2)
    assert_right(exe(*inputs), TwoHeads, inputs)


@pytest.mark.parametrize("threads", [1, 2])
def test_concurrent_calls(threads: int) -> None:
    exe = compiled(threads=threads)
    inputs = [inputs_of(TwoHeads, 1 + 2 * (i % 2), seed=i) for i in range(4)]
    wanted = [flat(exe(*x)) for x in inputs]
    barrier = threading.Barrier(4)

    def caller(i: int) -> int:
        barrier.wait()
        wrong = 0
        for _ in range(100):
            wrong += any(not np.array_equal(a, b) for a, b in zip(flat(exe(*inputs[i])), wanted[i]))
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(caller, range(4))) == [0, 0, 0, 0]


def workers() -> int:
    """Threads of this process that the pool of this thread uses."""
    return int(runtime().tvm["_ZN3tvm7runtime9threading10NumThreadsEv"]())


def test_models_with_different_thread_counts_in_one_process() -> None:
    (x,) = inputs_of(TwoHeads)
    one, two = compiled(threads=1), compiled(threads=2)
    three = tersor.compile(traced(TwoHeads), threads=3)
    three.program(three.entries[0])
    seen = []

    def calls() -> None:
        for exe in (two, three, one, two):
            assert_right(exe(x), TwoHeads, [x])
            seen.append(workers())

    thread = threading.Thread(target=calls)
    thread.start()
    thread.join()
    # a model of one thread launches nothing, so the pool stays as it is
    assert seen == [2, 3, 3, 2]


#: Prints which processors each thread may use, when a model has run on two.
AFFINITIES = """
import os
from runtime_models import TwoHeads, compiled, inputs_of
compiled(threads=2)(*inputs_of(TwoHeads))
for task in os.listdir("/proc/self/task"):
    print(sorted(os.sched_getaffinity(int(task))))
"""


def test_threads_are_not_pinned() -> None:
    # in a process of its own: another test may have started TVM's pool without our runtime
    env = {k: v for k, v in os.environ.items() if k != "TVM_BIND_THREADS"} | {"TVM_THREAD_POOL_SPIN_COUNT": "1000"}
    done = subprocess.run(
        [sys.executable, "-c", AFFINITIES], cwd=Path(__file__).parents[2] / "support", env=env, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.splitlines()) == {str(sorted(os.sched_getaffinity(0)))}
    assert len(done.stdout.splitlines()) > 1


def test_a_pool_too_small_is_said_and_still_right() -> None:
    (x,) = inputs_of(TwoHeads)
    most = runtime().threads._most
    wide = tersor.compile(traced(TwoHeads), threads=most + 1)

    def calls() -> None:
        runtime().threads.use(2) if most > 1 else compiled(threads=2)(x)
        with pytest.warns(UserWarning, match=rf"pool of {max(most, 2)} workers.*{most + 1} threads") as said:
            assert_right(wide(x), TwoHeads, [x])
        assert said[0].filename == __file__

    with ThreadPoolExecutor(1) as pool:
        pool.submit(calls).result()


def test_a_static_graph_compiles_at_its_own_batch() -> None:
    graph = tersor.trace(torch.nn.ReLU().eval(), (torch.zeros(2, 5, 5, 5),), batch=False)
    exe = tersor.compile(graph)
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(exe(x), np.maximum(x, 0))
    assert exe.entries[0].batch is None
    with pytest.raises(TersorError, match=r"input 'input' of main must be f32\[2, 5, 5, 5\]"):
        exe(x[:1])


@pytest.mark.parametrize("batch, sizes", [(1, [1]), (3, [1, 3])])
def test_the_default_batches_are_1_and_the_examples(batch: int, sizes: list[int]) -> None:
    x = torch.randn(batch, 5, 2, 2)
    exe = tersor.compile(tersor.trace(torch.nn.ReLU().eval(), (x,)))
    assert [entry.batch for entry in exe.entries] == sizes
    for n in sizes:
        assert torch.equal(exe(x[:n]), torch.relu(x[:n]))


def test_a_structure_with_none_in_it() -> None:
    graph = traced(Sum).clone()
    graph.set_outputs(graph.outputs, structure={"y": 0, "loss": None})
    result = tersor.compile(graph)(*inputs_of(Sum))
    assert list(result) == ["y", "loss"]
    assert result["loss"] is None
    assert_right(result["y"], Sum, inputs_of(Sum))


def test_after_a_fork_the_child_runs_alone() -> None:
    exe, inputs = compiled(threads=2), inputs_of(TwoHeads)
    wanted = exe(*inputs)["features"]
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(exe(*inputs)["features"], wanted) else 1)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0
    np.testing.assert_array_equal(exe(*inputs)["features"], wanted)


def test_weights_are_kept_once() -> None:
    weights = Weights()
    a = np.arange(40, dtype=np.float32)
    places = [weights.add(x) for x in (a, a + 1, a.copy(), np.float32(3))]
    assert places[2] == places[0]
    # arrays that differ in a byte outside the sample
    long = np.zeros(100_000, np.uint8)
    changed = long.copy()
    changed[1] = 1
    places += [weights.add(long), weights.add(changed), weights.add(long.copy())]
    assert Constant(long).sample == Constant(changed).sample and places[4] == places[6] != places[5]
    blob = weights.blob()
    assert not weights._constants
    assert blob.ctypes.data % 64 == 0
    for at, x in zip(places, (a, a + 1, a, np.float32(3), long, changed)):
        assert at % 64 == 0
        np.testing.assert_array_equal(blob[at : at + x.nbytes].view(x.dtype), np.ravel(x))
        assert at + x.nbytes + 64 <= blob.nbytes


def test_packed_weights_are_written_once_for_each_form_of_equal_sources() -> None:
    a = np.arange(1000, dtype=np.float32)
    written = []

    def packed(source: np.ndarray, form: str) -> Packed:
        def write(out: np.ndarray) -> None:
            written.append(form)
            out[:] = source[::-1] if form == "reversed" else np.repeat(source, 2)[: len(out)]

        return Packed(1000, "float32", source, form, write)

    weights = Weights()
    places = [weights.add(x) for x in (packed(a, "reversed"), packed(a.copy(), "reversed"), packed(a, "twice"), packed(a + 1, "reversed"), a)]
    assert not written and places[0] == places[1] and len(set(places)) == 4
    blob = weights.blob()
    assert sorted(written) == ["reversed", "reversed", "twice"]
    for at, x in zip(places, (a[::-1], a[::-1], np.repeat(a, 2)[:1000], a[::-1] + 1, a)):
        np.testing.assert_array_equal(blob[at : at + 4000].view(np.float32), x)
    np.testing.assert_array_equal(packed(a, "reversed").array(), a[::-1])


def test_batches_share_packed_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(16, 32, 3, padding=1), nn.Linear(32 * 64, 128)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv(x).flatten(1))

    torch.manual_seed(0)
    graph = tersor.trace(Net(), (torch.zeros(1, 16, 8, 8),))
    alone, both = (tersor.compile(graph, batch=batch, winograd=0)._weights.nbytes for batch in (1, [1, 2]))
    assert both < 1.1 * alone


def test_batches_share_weights() -> None:
    one, both = (tersor.compile(traced(TwoHeads), batch=sizes, winograd=0) for sizes in ([1], [1, 3]))
    assert both._weights.nbytes == one._weights.nbytes
    assert [e.batch for e in compiled().entries] == [1, 3]


def test_benchmark() -> None:
    exe = compiled()
    result = exe.benchmark(repeat=20, warmup=1)
    assert 0 < result.min <= result.median <= result.p90
    assert result.repeat == 20
    assert (result.batch, result.threads, result.target) == (1, 1, exe.target.name)
    assert set(result.versions) == {"tersor", "tvm", "ffi"}
    assert "\n" not in str(result)
    assert f"median {result.median:.3f} ms" in str(result)
    assert json.loads(result.to_json())["median"] == result.median
    assert exe.benchmark(repeat=3, batch=3).batch == 3
    with pytest.raises(AttributeError):
        result.median = 0  # type: ignore[misc]


def test_benchmark_measures_whole_calls_on_given_inputs() -> None:
    exe = compiled(Sum)
    inputs = inputs_of(Sum, 3)
    start = time.perf_counter()
    result = exe.benchmark(repeat=10, warmup=0, inputs=inputs)
    assert result.median * 10 / 2 <= (time.perf_counter() - start) * 1e3
    assert result.batch == 3
    assert exe.benchmark(repeat=1, inputs={"right": inputs[1], "left": inputs[0]}).batch == 3
    assert exe.profile(rounds=1, inputs=inputs).batch == 3
    assert compiled().benchmark(repeat=1, inputs=inputs_of(TwoHeads, 3)[0]).batch == 3


def test_profile() -> None:
    exe = compiled()
    profile = exe.profile(rounds=5)
    steps = exe.entries[0].steps
    assert [r.kernel for r in profile.rows] == [s.kernel for s in steps]
    assert sum(r.share for r in profile.rows) == pytest.approx(1)
    assert sum(r.time for r in profile.rows) == pytest.approx(profile.total)
    assert all(r.fastest <= r.time for r in profile.rows)
    conv = next(r for r in profile.rows if r.op.startswith("conv2d+relu"))
    assert conv.macs == 20 * 3 * 9 * 12 * 10
    assert conv.gflops == pytest.approx(2 * conv.macs / conv.time / 1e6)
    assert conv.peak == pytest.approx(conv.gflops / profile.peak_gflops)
    assert "runtime_models.py" in conv.loc
    assert conv.loc.startswith("stem at ")
    text = str(profile).splitlines()
    assert len(text) == len(steps) + 3
    assert " ".join(text[0].split()) == "step ops kernel template chosen shape ms share GFLOP/s of peak GB/s source"
    assert len({line.index("  ") for line in text[1:2]}) == 1
    data = json.loads(profile.to_json())
    assert [r["step"] for r in data["rows"]] == list(range(len(steps)))
    assert exe.profile(rounds=1, batch=3).batch == 3


def test_profile_names_no_speed_below_the_resolution_of_the_clock() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((1, 4)), "x")
    graph.set_outputs([graph.add(Linear(graph.add(Softmax(x, 1)), Const(np.ones((2, 4), np.float32))))])
    profile = tersor.compile(graph).profile(rounds=1)
    assert 0 < profile.resolution < 1
    # the same rows beside a clock that shows each of them, and one that shows none
    fine, coarse = replace(profile, resolution=0.0), replace(profile, resolution=1e3)
    columns = profile.cells()[0]
    for shown, live in ((fine, True), (coarse, False)):
        rows = [dict(zip(columns, line)) for line in shown.cells()[1]]
        assert all((r["ms"].startswith("<") and r["share"] == "-") != live for r in rows)
        linear = next(r for r in rows if r["ops"] == "linear")
        assert (linear["of peak"] == linear["GFLOP/s"] == "-") != live and linear["GB/s"] == ""
        assert (next(r for r in rows if r["ops"] == "softmax")["GB/s"] == "-") != live


def test_peak_is_near_what_the_instructions_allow() -> None:
    target = compiled().target
    per_cycle = 2 * 2 * target.lanes
    # 1 to 6 GHz, on a machine that others use too
    assert 0.2 * per_cycle < peak_gflops(compiled()) < 6 * per_cycle


def test_report_says_what_runs_in_which_precision() -> None:
    exe = compiled()
    precision = exe.report.precision
    assert set(precision) == {"f32"}
    assert precision["f32"]["nn.add"] == 1
    assert sum(n for name, n in precision["f32"].items() if "conv2d" in name) == 4
    assert str(exe.report).startswith("f32: ")
    assert f"weights {exe._weights.nbytes:,} bytes" in str(exe.report)


@pytest.mark.parametrize("target", ["cpu:znver3", "cpu:x86-64-v2"])
def test_other_targets_of_this_machine(target: str) -> None:
    inputs = inputs_of(TwoHeads)
    assert_right(tersor.compile(traced(TwoHeads), target=target)(*inputs), TwoHeads, inputs)


def test_where_memory_begins() -> None:
    whole = np.arange(24.0).reshape(4, 6)
    locked = whole.copy()
    locked.flags.writeable = False
    for x in (whole, whole[1:], whole.T, whole[:, ::2], whole[::-1], np.zeros(0), np.ones(()), locked):
        assert address(x) == (x.ctypes.data if x.flags.c_contiguous else 0)
