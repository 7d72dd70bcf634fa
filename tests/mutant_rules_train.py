"""The mutants of `mutants.py` that are about training and networks of few bits."""

from __future__ import annotations

from mutant_rules import Mutant

ONE_STEP = "tests/passes/bits/test_one_step.py"
MODULE = "tests/passes/train/test_module.py"
FINETUNE = "tests/passes/train/test_finetune.py"

TRAINING = (
    Mutant(
        "ternary thresholds are those of a filter",
        "ir/ops/bits.py",
        "self.threshold * size.mean(1, keepdim=True)",
        "self.threshold * size.mean()",
        f"{ONE_STEP} -k ternarize",
    ),
    Mutant(
        "the gradient of a sign is clipped",
        "ir/ops/bits.py",
        "x.abs() <= 1",
        "x.abs() <= 2",
        f"{ONE_STEP} -k xnor",
    ),
    Mutant(
        "a gradient's scale is that of an example",
        "ir/ops/bits.py",
        "dr.abs().flatten(1).amax(1)",
        "dr.abs().flatten(1).amax()[None]",
        f"{ONE_STEP} -k gradients",
    ),
    Mutant(
        "no ReLU stands in front of a sign",
        "passes/bits/binarize.py",
        "return x.op.operands[0] if relu and x.op is not None else x",
        "return x",
        "tests/passes/bits/test_passes.py -k sign_is_taken",
    ),
    Mutant(
        "what was clamped has no gradient",
        "ir/ops/fake.py",
        "inside = (q >= qmin) & (q <= qmax)",
        "inside = q >= qmin",
        "tests/ir/test_ops_fake.py -k levels",
    ),
    Mutant(
        "running statistics are those of the batch",
        "ir/ops/norm.py",
        "beta, True, 1.0, self.eps",
        "beta, True, 0.5, self.eps",
        f"{MODULE} -k statistics",
    ),
    Mutant(
        "a constant that normalizes the image is no parameter",
        "passes/train/parameters.py",
        "if other in behind and v.type.size > 1:",
        "if v.type.size > 1:",
        f"{MODULE} -k names_are_those",
    ),
    Mutant(
        "examples held out are not trained on",
        "passes/train/data.py",
        ".permutation(self.kept)",
        ".permutation(np.concatenate([self.kept, self.held]))",
        f"{FINETUNE} -k held_out",
    ),
    Mutant("distillation scales with T squared", "passes/train/loss.py", "self.temperature**2 *", "self.temperature *", f"{FINETUNE} -k hinton"),
    Mutant("a loss that is nan stops", "passes/train/loop.py", "if not math.isfinite(counts[0]):", "if math.isinf(counts[0]):", f"{FINETUNE} -k nan"),
    Mutant(
        "the optimizer goes on where it was",
        "passes/train/loop.py",
        "self.optimizer.load_state_dict(optimizer)",
        "pass",
        "tests/passes/train/test_resume.py -k any_step",
    ),
    Mutant(
        "a resumed epoch draws what it drew",
        "passes/train/data.py",
        "            draw(epoch, step)\n",
        "",
        "tests/passes/train/test_resume.py -k any_step",
    ),
)
