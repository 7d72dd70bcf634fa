"""Break one rule at a time and see a test turn red: `make mutants`, or `python tests/mutants.py [PART OF A NAME]`.

Each mutant changes one line in a copy of the tree; the tests named beside it must fail there. One that survives is a rule that no test guards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Copies of the tree that are tested at a time.
COPIES = 2


@dataclass(frozen=True)
class Mutant:
    """The rule that is broken, by replacing `old` (which occurs once in `file`) with `new`; `tests` must notice."""

    rule: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "scales are positive",
        "ir/verify.py",
        "elif not all(0 < s < math.inf for s in elem.scales):",
        "elif not all(s < math.inf for s in elem.scales):",
        "tests/ir/test_verify.py",
    ),
    Mutant("zero points lie in the storage range", "ir/verify.py", "if not lo <= z <= hi]", "if not lo <= z]", "tests/ir/test_verify.py"),
    Mutant("a result's type is what its op infers", "ir/verify.py", "if v.type != t:", "if v.type.shape != t.shape:", "tests/ir/test_verify.py"),
    Mutant("uses are counted right", "ir/verify.py", "if uses != v.uses:", "if uses.keys() != v.uses.keys():", "tests/ir/test_verify.py"),
    Mutant("weights are no nan", "ir/verify.py", "if math.isnan(lo) or math.isnan(hi):", "if math.isinf(lo):", "tests/ir/test_verify.py"),
    Mutant(
        "a pooling window starts inside the input or the padding before it",
        "ir/ops/check.py",
        "(count - 1) * stride >= size + lo else count",
        "(count - 1) * stride >= size + lo + hi else count",
        "tests/ir/test_ops_pool.py",
    ),
    Mutant("groups divide the channels", "ir/ops/conv.py", "if per_group * self.groups != c:", "if per_group > c:", "tests/ir/test_ops_conv.py"),
    Mutant(
        "the text's operand types are those of the values",
        "ir/parse.py",
        "if v.type is not t and v.type != t:",
        "if v.type.shape != t.shape:",
        "tests/ir/test_parse.py",
    ),
    Mutant("a name is defined once", "ir/parse.py", "            if ref in values:", "            if not ref:", "tests/ir/test_parse.py"),
    Mutant(
        "elements below 8 bits keep their sign",
        "ir/save.py",
        ".view(np.int8) >> (8 - bits)",
        ".view(np.uint8) >> (8 - bits)",
        "tests/ir/test_save.py",
    ),
    Mutant(
        "fold-bn asks for the only reader",
        "passes/fold_bn.py",
        "if not layer.out.single_use:",
        "if not layer.out.uses:",
        "tests/passes/test_fold_bn.py",
    ),
    Mutant(
        "fold-bn adds eps to the variance",
        "passes/fold_bn.py",
        "gamma / np.sqrt(var + bn.eps)",
        "gamma / np.sqrt(var)",
        "tests/passes/test_fold_bn.py",
    ),
    Mutant(
        "fold-bn scales the bias too",
        "passes/affine.py",
        "array_of(layer.b) * k + shift",
        "array_of(layer.b) + shift",
        "tests/passes/test_fold_bn.py",
    ),
    Mutant(
        "a shift does not fold into a padded convolution",
        "passes/affine.py",
        "isinstance(layer, Conv2d) and any(layer.padding)",
        "isinstance(layer, Conv2d) and all(layer.padding) and layer.groups > 1",
        "tests/passes/test_fold_bn.py",
    ),
    Mutant(
        "x + 0.0 is not x where x may be -0.0",
        "passes/identities.py",
        "if op.a.type.is_float and not negative_zero(c) and not isinstance(",
        "if not op.a.type.is_float and not negative_zero(c) and not isinstance(",
        "tests/passes/test_identities.py",
    ),
    Mutant(
        "clip(relu(x)) keeps the zero",
        "passes/identities.py",
        "op.rebuilt(x=relu.x, min=max(op.min, 0.0))",
        "op.rebuilt(x=relu.x)",
        "tests/passes/test_identities.py",
    ),
    Mutant(
        "equal ops have equal attributes", "passes/cse.py", "for f in op.fields)", "for f in op.operand_fields)", "tests/passes/test_canonicalize.py"
    ),
    Mutant(
        "transposes compose in order",
        "passes/identities_shape.py",
        "tuple(p[q] for q in op.perm)",
        "tuple(op.perm[q] for q in p)",
        "tests/passes/test_identities_shape.py",
    ),
    Mutant(
        "a pass whose result is nan is caught",
        "passes/check.py",
        "if not worst <= allowed:",
        "if worst > 1e6 * allowed:",
        "tests/passes/test_transform.py",
    ),
    Mutant(
        "true is no integer option",
        "passes/options.py",
        "elif annotation is int and isinstance(value, bool):",
        "elif annotation is int and value is None:",
        "tests/passes",
    ),
    Mutant(
        "the first kernel row inside the map, with dilation",
        "backend/kernels/geometry.py",
        "t.floordiv(dilation - 1 - start, dilation)",
        "t.floordiv(-start, dilation)",
        "tests/backend/test_conv.py",
    ),
    Mutant(
        "the last kernel row inside the map",
        "backend/kernels/geometry.py",
        "t.floordiv(size - 1 - start, dilation) + 1",
        "t.floordiv(size - start, dilation) + 1",
        "tests/backend/test_conv.py",
    ),
    Mutant(
        "columns end with the map",
        "backend/kernels/geometry.py",
        "+ s * self.dw < w]",
        "+ s * self.dw <= w]",
        "tests/backend/test_conv.py tests/backend/test_maps.py",
    ),
    Mutant("dead lanes reach no dot product", "backend/kernels/dot.py", "if live < lanes:", "if live < 0:", "tests/backend/test_dot.py"),
    Mutant(
        "padding counts in an average only if asked",
        "backend/kernels/pool.py",
        "if op.count_include_pad else (0, size)",
        "if not op.count_include_pad else (0, size)",
        "tests/backend/test_maps.py",
    ),
    Mutant(
        "live buffers do not share bytes",
        "backend/plan.py",
        "if o.first <= s.last and s.first <= o.last",
        "if o.first < s.last and s.first < o.last",
        "tests/backend/test_plan.py",
    ),
    Mutant(
        "a reshape keeps its operand's memory alive",
        "backend/plan.py",
        "last_read(user.out, order) if isinstance(user, Reshape) else order[user]",
        "order[user]",
        "tests/backend/test_plan.py",
    ),
    Mutant(
        "groups stay of one size when channels go",
        "ir/ops/conv.py",
        "        if self.groups > 1:\n            yield per_group(self.w, 0, self.groups)",
        "        if self.groups > 2:\n            yield per_group(self.w, 0, self.groups)",
        "tests/passes/prune/test_topologies.py",
    ),
    Mutant(
        "a depthwise channel goes with its own outputs",
        "ir/ops/conv.py",
        "yield Tie(self.w, 0, outputs, self.x, 1, outputs // (len(outputs) // self.groups))",
        "yield Tie(self.w, 0, outputs, self.x, 1, outputs % self.groups)",
        "tests/passes/prune/test_topologies.py",
    ),
    Mutant(
        "constants of removed channels go into the next bias",
        "passes/prune/remove.py",
        "copy = _with_bias(op, copy, kept, bias_of(op, contributions))",
        "copy = _with_bias(op, copy, kept, None)",
        "tests/passes/prune/test_topologies.py",
    ),
    Mutant(
        "a block that got worse is put back",
        "passes/reconstruct/blocks.py",
        "        weights |= start",
        "        start |= weights",
        "tests/passes/reconstruct/test_blocks.py",
    ),
    Mutant(
        "a block is fitted on what it is given now",
        "passes/reconstruct/blocks.py",
        "now = [results(block.now, dict(zip(at, x)) | weights, block.outs) for x in now]",
        "now = target",
        "tests/passes/reconstruct/test_blocks.py",
    ),
    Mutant(
        "LASSO sees filters of norm 1",
        "passes/prune/select.py",
        "a / np.outer(norm, norm), b / norm,",
        "a, b,",
        "tests/passes/prune/test_select.py",
    ),
    Mutant(
        "of the sets that do not stay, those come that gain most",
        "passes/prune/exchange.py",
        'np.argsort(-gain, kind="stable")',
        'np.argsort(gain, kind="stable")',
        "tests/passes/prune/test_exchange.py",
    ),
    Mutant(
        "what a set gains is weighed by what each response counts",
        "passes/prune/exchange.py",
        "np.linalg.solve(schur, c[rows]), self.normal.d)",
        "np.linalg.solve(schur, c[rows]), np.ones_like(self.normal.d))",
        "tests/passes/prune/test_exchange.py",
    ),
    Mutant(
        "the last layer of a branch makes up for what the other term lost",
        "passes/reconstruct/rows.py",
        "y += responses(missing, axis, image, pixel)",
        "y -= responses(missing, axis, image, pixel)",
        "tests/passes/reconstruct/test_reconstruct.py",
    ),
    Mutant(
        "errors that a ReLU cuts off do not count",
        "passes/reconstruct/clamp.py",
        "np.where(wanted < low, np.minimum(now, low), np.maximum(now, high))",
        "np.where(wanted < low, low, high)",
        "tests/passes/reconstruct/test_clamp.py",
    ),
    Mutant(
        "curvature is of each output relative to its own spread",
        "passes/prune/curvature.py",
        "/ (y.detach().std() + 1e-12)",
        "",
        "tests/passes/prune/test_curvature.py",
    ),
    Mutant(
        "what is run to the outputs is the layer with its new weights",
        "passes/prune/sensitivity.py",
        "replay.outputs_if(layer, replay.now(changed.out, i), i)",
        "replay.outputs_if(layer, y, i)",
        "tests/passes/prune/test_effect.py",
    ),
    Mutant(
        "a fit is judged on images that it was not made to",
        "passes/reconstruct/holdout.py",
        "parts = zip(self.held,",
        "parts = zip(self.fitted,",
        "tests/passes/reconstruct/test_holdout.py",
    ),
    Mutant(
        "errors of early layers count less, for later ones are refitted",
        "passes/prune/sensitivity.py",
        "(len(matter) - done)",
        "done",
        "tests/passes/prune/test_prune_channels.py",
    ),
    Mutant(
        "least squares has an intercept",
        "passes/reconstruct/moments.py",
        "return xy - np.outer(x, self.y) / max(self.rows, 1)",
        "return xy + np.outer(x, self.y) * 0",
        "tests/passes/reconstruct/test_reconstruct.py",
    ),
    Mutant(
        "without some columns the others are fitted anew",
        "passes/reconstruct/moments.py",
        "full - inverse[:, out] @ np.linalg.solve(inverse[np.ix_(out, out)], full[out])",
        "full.copy()",
        "tests/passes/reconstruct/test_holdout.py",
    ),
    Mutant(
        "layers that lose nothing stay unless all are to be refitted",
        "passes/prune/carry.py",
        "asked = self.settings.reconstruct and self.settings.all_layers",
        "asked = self.settings.reconstruct",
        "tests/passes/prune/test_prune_channels.py",
    ),
    Mutant(
        "layers shrink by the time they save",
        "passes/prune/prune_channels.py",
        "memory=True",
        "memory=False",
        "tests/passes/prune/test_prune_channels.py",
    ),
    Mutant(
        "a map that is read in two ways lies as both ask",
        "backend/bands.py",
        "- (whole - broken)",
        "- whole",
        "tests/backend/test_bands.py",
    ),
    Mutant(
        "kernels whose maps lie differently are different ones",
        "backend/emit.py",
        'f"{v.op.bands}:{v.op.apart}" if isinstance(v.op, Fused) else ""',
        '""',
        "tests/backend/test_bands.py",
    ),
    Mutant(
        "no buffer lies over a band",
        "backend/plan.py",
        "for s, at in parts for band in range(s.bands)]",
        "for s, at in parts for band in range(1)]",
        "tests/backend/test_plan.py tests/backend/test_bands.py",
    ),
    Mutant(
        "threads wait for each other behind each part",
        "backend/team.py",
        "sequence([_run(call, part, worker), wait])",
        "_run(call, part, worker)",
        "tests/backend/test_team.py",
    ),
    Mutant(
        "a thread that has not come is waited for",
        "backend/team.py",
        "icmp slt i32 %ahead, 0",
        "icmp slt i32 %ahead, -1",
        "tests/backend/test_team.py",
    ),
    Mutant(
        "what stands between parallel loops is done once",
        "backend/parts.py",
        "add(alone.copy(), t.EQ(worker, 0))",
        "add(alone.copy(), worker >= 0)",
        "tests/backend/test_team.py",
    ),
    Mutant(
        "what a thread reads is what others wrote before",
        "backend/parts.py",
        "if alone and _reads_memory(stmt, own):",
        "if alone and not own:",
        "tests/backend/test_team.py",
    ),
    Mutant(
        "bounds of a loop that name another one's variable have names",
        "backend/tir.py",
        "if shifted and self._shifted:",
        "if shifted and not self._shifted:",
        "tests/backend/test_team.py",
    ),
    Mutant(
        "two kernels do not write to the same bytes of a group",
        "backend/views.py",
        "if not _apart(written):",
        "if not written:",
        "tests/backend/test_views.py",
    ),
    Mutant(
        "what a tail reads lies as its result does, in views of several images too",
        "backend/views.py",
        "return () if finds and len(alike) == 1 else apart",
        "return () if finds else apart",
        "tests/backend/test_views.py",
    ),
    Mutant(
        "a gate for each image of a view is found where that image's lies",
        "backend/region.py",
        "image * self.region.map_rows(v).apart + channel",
        "image * self.region.map_rows(v).image + channel",
        "tests/backend/test_views.py",
    ),
    Mutant(
        "a gather is absorbed only by convolutions of single pixels",
        "backend/kernels/gathered.py",
        "pointwise = conv_window(conv).pointwise and Gemm().accepts(conv, target)",
        "pointwise = Gemm().accepts(conv, target)",
        "tests/backend/test_absorb.py",
    ),
    Mutant(
        "a worker gathers what no task of its own before it gathered",
        "backend/kernels/gathered.py",
        "t.any(t.EQ(task, start), t.EQ(part, 0))",
        "t.EQ(part, 0)",
        "tests/backend/test_absorb.py",
    ),
    Mutant(
        "all readers of a gather absorb it, or none",
        "backend/absorb.py",
        "if new is not None and None not in together:",
        "if new is not None:",
        "tests/backend/test_absorb.py",
    ),
    Mutant(
        "a gather is absorbed by what else computes single pixels",
        "backend/kernels/gathered.py",
        "readers = (Gemm.name, Direct.name)",
        "readers = (Gemm.name,)",
        "tests/backend/test_absorb.py",
    ),
    Mutant(
        "a part's depthwise weights are those of its channels",
        "backend/legalize/channels.py",
        "w = Const(op.w.op.array[here]",
        "w = Const(op.w.op.array[: len(here)]",
        "tests/backend/test_absorb.py",
    ),
    Mutant(
        "a depthwise convolution is divided only before convolutions that gather",
        "backend/legalize/channels.py",
        " or not only_multiplied(op.out):",
        ":",
        "tests/backend/test_absorb.py",
    ),
    Mutant(
        "weights follow the order of the channels they multiply",
        "backend/legalize/channels.py",
        "where, op.w.op.array.swapaxes(0, 1)",
        "np.sort(where), op.w.op.array.swapaxes(0, 1)",
        "tests/backend/test_absorb.py",
    ),
    Mutant(
        "a group lives until its last reader",
        "backend/plan.py",
        "max(last_read(op.out, order) for op in held)",
        "min(last_read(op.out, order) for op in held)",
        "tests/backend/test_plan.py tests/backend/test_views.py",
    ),
    Mutant(
        "channels of small weights lose nothing in 24 bits",
        "backend/kernels/fixed24.py",
        ".clip(-EXPONENT, EXPONENT)",
        ".clip(0, 0)",
        "tests/backend/test_fixed24.py",
    ),
    Mutant(
        "weights of 24 bits are the nearest",
        "backend/kernels/fixed24.py",
        "for other in (guess - 1, guess + 1):",
        "for other in ():",
        "tests/backend/test_fixed24.py",
    ),
    Mutant(
        "values are multiplied by the factors of their own channels",
        "backend/kernels/winograd_phases.py",
        "return self._f32(block * self.p.g.lanes) if",
        "return self._f32(0) if",
        "tests/backend/test_fixed24.py",
    ),
)


def main() -> int:
    chosen = [m for m in MUTANTS if all(part in f"{m.rule} {m.file}" for part in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder:
        copies = [copy_tree(Path(folder) / str(i) / "tersor") for i in range(COPIES)]
        with ThreadPoolExecutor(COPIES) as pool:
            green = list(pool.map(lambda tests: (tests, run(copies[0], tests)), sorted({m.tests for m in chosen})))
        if broken := [tests for tests, code in green if code != 0]:
            print(f"red before anything is broken: {', '.join(broken)}")
            return 1
        free = list(copies)

        def attempt(mutant: Mutant) -> str:
            tree = free.pop()
            try:
                return verdict(tree, mutant)
            finally:
                free.append(tree)

        survivors = 0
        width = max(len(m.rule) for m in chosen)
        with ThreadPoolExecutor(COPIES) as pool:
            for mutant, result in zip(chosen, pool.map(attempt, chosen)):
                survivors += result != "killed"
                print(f"{mutant.rule:{width}}  {mutant.file:32}  {result}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return int(survivors > 0)


def copy_tree(target: Path) -> Path:
    """The files that git knows, or would take, in a folder called tersor."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def run(tree: Path, tests: str) -> int:
    """pytest's exit code in a copy, which comes before the installed package on the path."""
    env = os.environ | {"PYTHONPATH": str(tree.parent), "OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    return subprocess.run(command, cwd=tree, env=env, capture_output=True).returncode


def verdict(tree: Path, mutant: Mutant) -> str:
    """`killed` when a test failed or the process crashed; pytest's codes above 2 say that it could not run the tests at all."""
    path = tree / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        return f"DOES NOT APPLY: its line occurs {source.count(mutant.old)} times"
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        code = run(tree, mutant.tests)
    finally:
        path.write_text(source)
    return "killed" if code == 1 or code < 0 else f"SURVIVED (pytest ended with code {code})"


if __name__ == "__main__":
    sys.exit(main())
