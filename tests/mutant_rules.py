"""The mutants of `mutants.py`: each breaks one rule. Those of the backend are in `mutant_rules_backend.py`."""

from __future__ import annotations

from dataclasses import dataclass


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
        "passes/folding/fold_bn.py",
        "if not layer.out.single_use:",
        "if not layer.out.uses:",
        "tests/passes/folding/test_fold_bn.py",
    ),
    Mutant(
        "fold-bn adds eps to the variance",
        "passes/folding/fold_bn.py",
        "gamma / np.sqrt(var + bn.eps)",
        "gamma / np.sqrt(var)",
        "tests/passes/folding/test_fold_bn.py",
    ),
    Mutant(
        "fold-bn scales the bias too",
        "passes/folding/affine.py",
        "array_of(layer.b) * k + shift",
        "array_of(layer.b) + shift",
        "tests/passes/folding/test_fold_bn.py",
    ),
    Mutant(
        "a shift does not fold into a padded convolution",
        "passes/folding/affine.py",
        "isinstance(layer, Conv2d) and any(layer.padding)",
        "isinstance(layer, Conv2d) and all(layer.padding) and layer.groups > 1",
        "tests/passes/folding/test_fold_bn.py",
    ),
    Mutant(
        "x + 0.0 is not x where x may be -0.0",
        "passes/cleanup/identities.py",
        "if op.a.type.is_float and not negative_zero(c) and not isinstance(",
        "if not op.a.type.is_float and not negative_zero(c) and not isinstance(",
        "tests/passes/cleanup/test_identities.py",
    ),
    Mutant(
        "clip(relu(x)) keeps the zero",
        "passes/cleanup/identities.py",
        "op.rebuilt(x=relu.x, min=max(op.min, 0.0))",
        "op.rebuilt(x=relu.x)",
        "tests/passes/cleanup/test_identities.py",
    ),
    Mutant(
        "equal ops have equal attributes",
        "passes/cleanup/cse.py",
        "for f in op.fields)",
        "for f in op.operand_fields)",
        "tests/passes/cleanup/test_canonicalize.py",
    ),
    Mutant(
        "transposes compose in order",
        "passes/cleanup/identities_shape.py",
        "tuple(p[q] for q in op.perm)",
        "tuple(op.perm[q] for q in p)",
        "tests/passes/cleanup/test_identities_shape.py",
    ),
    Mutant(
        "a pass whose result is nan is caught",
        "passes/core/check.py",
        "if not worst <= allowed:",
        "if worst > 1e6 * allowed:",
        "tests/passes/core/test_transform.py",
    ),
    Mutant(
        "true is no integer option",
        "passes/core/options.py",
        "elif annotation is int and isinstance(value, bool):",
        "elif annotation is int and value is None:",
        "tests/passes",
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
        "now = [results(block.current, dict(zip(at, x)) | weights, block.outs) for x in now]",
        "now = target",
        "tests/passes/reconstruct/test_blocks.py",
    ),
    Mutant(
        "merged constants are numbers of their type",
        "passes/cleanup/simplify.py",
        "if not representable(array, elem):",
        "if not elem:",
        "tests/passes/folding/test_range.py",
    ),
    Mutant(
        "folded weights keep their digits",
        "passes/folding/affine.py",
        "np.abs(slices).reshape(len(slices), -1).max(axis=1, initial=0), hidden",
        "1.0, hidden",
        "tests/passes/folding/test_range.py",
    ),
    Mutant(
        "a channel whose filters are zero does not vary",
        "passes/prune/strength.py",
        "marked = np.zeros(self.coupling.count, np.bool_)",
        "marked = np.ones(self.coupling.count, np.bool_)",
        "tests/passes/prune/test_transposed.py",
    ),
    Mutant(
        "a transposed convolution reads where its stride divides",
        "passes/reconstruct/rows.py",
        "from_start % stride == 0",
        "from_start >= 0",
        "tests/passes/prune/test_transposed.py",
    ),
    Mutant(
        "functions are checked on whole vectors",
        "passes/core/by_value.py",
        "pad(p, (0, -len(p) % VECTOR), value=1)",
        "p",
        "tests/passes/core/test_check_inputs.py",
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
        "passes/prune/swap.py",
        'np.argsort(-gain, kind="stable")',
        'np.argsort(gain, kind="stable")',
        "tests/passes/prune/test_swap.py",
    ),
    Mutant(
        "what a set gains is weighed by what each response counts",
        "passes/prune/swap.py",
        "np.linalg.solve(schur, c[rows]), self.normal.d)",
        "np.linalg.solve(schur, c[rows]), np.ones_like(self.normal.d))",
        "tests/passes/prune/test_swap.py",
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
        "replay.outputs_if(layer, replay.current(changed.out, i), i)",
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
        "(len(sensitivity) - done)",
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
        "passes/prune/layerwise.py",
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
)
