"""finetune against a plain loop over the eager module, and what it does with data of all forms, teachers, early stop and NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import graph_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from train_cases import accuracy, eager, graph, same, shapes, weights

import tersor
from tersor.ir import Const
from tersor.ir import ops as irops
from tersor.passes.train.schedule import rate

X, Y = shapes()
BATCHES = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("more", ["", "schedule=step milestones=[0.4] decay=0.5 clip=0.5 smoothing=0.1", "warmup=0.5 schedule=constant ema=0.5"])
def test_it_trains_as_a_plain_loop_does(optimizer: str, more: str) -> None:
    trained = tersor.transform(graph(), f"finetune{{epochs=2 lr=0.1 optimizer={optimizer} {more}}}", train=BATCHES)
    module = eager().train()
    update = OPTIMIZERS[optimizer](module.parameters())
    average: dict[str, torch.Tensor] = {}
    for step, (x, y) in enumerate(BATCHES * 2):
        factor = (1 + math.cos(math.pi * step / 8)) / 2
        factor = (1 if step < 0.4 * 8 else 0.5) if "step" in more else min(1, (step + 1) / 4) if "warmup" in more else factor
        update.param_groups[0]["lr"] = 0.1 * factor
        update.zero_grad()
        F.cross_entropy(module(x), y, label_smoothing=0.1 if "smoothing" in more else 0).backward()  # type: ignore[no-untyped-call]
        if "clip" in more:
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        update.step()
        for name, value in module.state_dict().items():
            before = average.setdefault(name, value.clone())
            decay = min(0.5, (2 + step) / (11 + step))
            average[name] = decay * before + (1 - decay) * value
    expected = average if "ema" in more else module.state_dict()
    for name, value in weights(trained).items():
        if name in expected:
            torch.testing.assert_close(value, expected[name], rtol=2e-4, atol=2e-4)
    assert not same(trained, graph())


def test_rates() -> None:
    assert [rate(s, 8, "cosine") for s in (0, 4)] == pytest.approx([1, 0.5])
    assert rate(7, 8, "cosine") == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert [rate(s, 8, "constant", 0.5) for s in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert [rate(s, 8, "step", 0, (0.25, 0.75), 0.1) for s in (1, 2, 5, 6)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert rate(0, 1, "cosine", 0.9) == 1


def test_distillation_is_the_formula_of_hinton() -> None:
    from tersor.passes.train.data import Batch
    from tersor.passes.train.loss import Loss

    student, teacher, labels = np.random.randn(5, 4), np.random.randn(5, 4), np.array([0, 3, 1, 1, 2])

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max())
        return np.asarray(e / e.sum())

    for weight, temperature in ((0.0, 1.0), (0.3, 2.0), (1.0, 5.0)):
        expected = 0.0
        for z, t, label in zip(student, teacher, labels):
            p, q = softmax(t / temperature), softmax(z / temperature)
            kl = sum(p[i] * (math.log(p[i]) - math.log(q[i])) for i in range(4))
            expected += ((1 - weight) * -math.log(softmax(z)[label]) + weight * temperature**2 * kl) / 5
        loss = Loss(weight, temperature, 0.0, lambda x: {"logits": torch.from_numpy(teacher)})
        found, right = loss(lambda x: torch.from_numpy(student), Batch([torch.zeros(5, 1)], torch.from_numpy(labels)))
        assert float(found) == pytest.approx(expected, rel=1e-5)
        assert right == (student.argmax(1) == labels).sum()


@pytest.mark.parametrize("teacher", ["default", "module", "function"])
def test_a_teacher_needs_no_labels(teacher: str) -> None:
    """The convolutions are made worse; the graph before that, or another teacher of the same weights, brings them back."""
    import transform_cases  # noqa: F401 - registers test-scale

    module = eager().train()
    given = {"default": None, "module": module, "function": lambda x: graph()(x)}[teacher]
    found = tersor.transform(graph(), "test-scale{by=3},finetune{epochs=8 lr=0.003 distill_weight=1}", train=X, teacher=given)
    assert module.training
    scaled = tersor.transform(graph(), "test-scale{by=3}")
    x = shapes(64, seed=2)[0]
    errors = [float((g(x).softmax(1) - graph()(x).softmax(1)).abs().mean()) for g in (scaled, found)]
    assert errors[1] < errors[0] / 2
    losses = [e.loss for e in found.report["finetune"].layers]
    assert losses[-1] < losses[0] / 2
    assert found.report["finetune"].layers[0].accuracy is None


class Numbered(torch.utils.data.Dataset[Any]):
    """A Dataset that also draws random numbers."""

    def __init__(self, noise: float = 0.0):
        self.noise = noise

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Any:
        return X[i] + self.noise * torch.randn(X[i].shape), int(Y[i])


def test_data_in_any_form_gives_the_same_weights() -> None:
    pipeline = "finetune{steps=3 batch=32}"
    first = tersor.transform(graph(), pipeline, train=(X, Y))
    assert not same(first, graph())
    for other in ((X.numpy(), Y.numpy().astype(np.int32)), TensorDataset(X, Y), Numbered()):
        assert same(first, tersor.transform(graph(), pipeline, train=other))
    listed = tersor.transform(graph(), pipeline, train=BATCHES)
    for more in (lambda epoch: iter(BATCHES), DataLoader(TensorDataset(X[:64], Y[:64]), 16), [({"input": x}, y) for x, y in BATCHES]):
        assert same(listed, tersor.transform(graph(), pipeline, train=more))


def test_a_seed_fixes_order_and_noise() -> None:
    def trained(seed: int, option: str = "", train: Any = None) -> tersor.Graph:
        torch.manual_seed(int(torch.randint(1000, ())))  # what ran before must not matter
        return tersor.transform(graph(), f"finetune{{steps=3 {option}}}", train=train or Numbered(0.5), seed=seed)

    assert same(trained(0), trained(0))
    assert not same(trained(0), trained(1))
    assert same(trained(0, "seed=1"), trained(1))
    loader = DataLoader(Numbered(0.5), 16, shuffle=True)
    assert same(trained(0, train=loader), trained(0, train=loader))
    state = torch.get_rng_state()
    tersor.transform(graph(), "finetune{steps=2}", train=Numbered(0.5))
    assert torch.equal(torch.get_rng_state(), state)


def test_early_stop_keeps_the_best_weights() -> None:
    judged = iter([0.0, 0.5, 0.7, 0.6, 0.6, 0.0, 0.0])
    seen: list[tersor.Graph] = []

    def evaluate(g: tersor.Graph) -> float:
        seen.append(g.clone())
        return next(judged)

    found = tersor.transform(graph(), "finetune{epochs=9 lr=0.01 patience=2}", train=(X, Y), evaluate=evaluate)
    epochs = found.report["finetune"].layers
    assert [e.validation for e in epochs] == [0.5, 0.7, 0.6, 0.6]
    assert epochs[-1].stopped == "no better for 2 epochs"
    assert same(found, seen[2]) and not same(found, seen[3])


def test_examples_held_out_are_not_trained_on() -> None:
    seen: set[int] = set()

    class Watched(Numbered):
        def __getitem__(self, i: int) -> Any:
            seen.add(i)
            return super().__getitem__(i)

    found = tersor.transform(graph(), "finetune{epochs=1 steps=14 batch=16 validate=0.125}", train=Watched())
    assert len(seen) == 256
    (epoch,) = found.report["finetune"].layers
    assert epoch.steps == 14 == (256 - 32) // 16
    assert 0 <= epoch.validation <= 1
    assert round(epoch.validation * 32) == pytest.approx(epoch.validation * 32)


def poisoned(epoch: int) -> list[Any]:
    """The second step of the second epoch is given a NaN."""
    return BATCHES if epoch == 0 else [BATCHES[0], (BATCHES[1][0] * math.nan, BATCHES[1][1]), *BATCHES[2:]]


def test_nan_stops_with_the_weights_of_the_last_complete_epoch() -> None:
    pipeline = "finetune{steps=12 schedule=constant}"
    with pytest.warns(UserWarning, match="the loss is nan in step 2 of epoch 2; training stopped, and the weights are those after epoch 1"):
        found = tersor.transform(graph(), pipeline, train=poisoned)
    assert same(found, tersor.transform(graph(), "finetune{steps=4 schedule=constant}", train=poisoned))
    assert found.report["finetune"].layers[-1].stopped == "the loss is nan in step 2 of epoch 2"
    with pytest.raises(tersor.TersorError, match="the loss is nan in step 2 of epoch 1, before any epoch was complete: there are no good weights"):
        tersor.transform(graph(), pipeline, train=lambda epoch: poisoned(1))
    with pytest.raises(tersor.TersorError, match=r"a weight is not finite after step 1 of epoch 1|the loss is \S+ in step 2 of epoch 1"):
        tersor.transform(graph(), "finetune{steps=4 lr=1e38 optimizer=sgd}", train=BATCHES)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ("", {}, r"needs training data: transform\(graph, pipeline, train=data\)"),
        ("", {"train": 3}, r"training data is a tuple \(images, labels\), .*; got int"),
        ("", {"train": (X, Y[:9])}, "holds 256 images and 9 labels"),
        ("", {"train": X}, r"has no labels, which only distillation alone \(distill_weight=1\) can do without"),
        ("", {"train": (X, Y + 1)}, "labels must be from 0 to 3, for the graph gives 4 logits; got 4"),
        ("", {"train": (X, Y - 1)}, "labels must be from 0 to 3, .* got -1"),
        ("", {"train": (X, Y.float())}, "labels must be integers, the numbers of classes, got torch.float32"),
        ("", {"train": (X, Y[:, None])}, r"logits of shape \[64, 4\] need labels of shape \[64\], got \[64, 1\]"),
        ("", {"train": (X.double(), Y)}, r"must be f32\[batch, 1, 12, 12\].*got dtype torch.float64"),
        ("", {"train": (X[:, :, 1:], Y)}, r"got shape \[64, 1, 11, 12\]"),
        ("", {"train": (X[:0], Y[:0])}, "holds 0 examples for 1 processes"),
        ("", {"train": iter(BATCHES)}, r"does not say how many batches an epoch has \(__len__\): give finetune\{steps=...\}"),
        ("steps=9", {"train": iter(BATCHES)}, "gave no batch in epoch 2; a generator is used up after one epoch"),
        ("validate=0.1", {"train": BATCHES}, "batches that come one by one have none to hold out"),
        ("validate=0.001", {"train": (X, Y)}, "validate=0.001 of 256 examples holds out 0, which is too few"),
        ("patience=2", {"train": BATCHES}, r"patience needs something to judge by: validate=0.1 .*, or transform\(..., evaluate=f\)"),
        (
            "distill_weight=0.5",
            {"train": BATCHES, "teacher": nn.Conv2d(1, 5, 12)},
            r"teacher gives logits of shape \[16, 5, 1, 1\], the graph of shape",
        ),
        ("distill_weight=0.5", {"train": BATCHES, "teacher": "resnet"}, "a teacher is a graph, a torch module or a function of the inputs, got str"),
        ("distill_weight=2", {"train": BATCHES}, "distill_weight must be from 0 to 1, got 2.0"),
        ("device=gpu", {"train": BATCHES}, "device must be cpu, cuda or cuda:N, got 'gpu'"),
        ("device=meta", {"train": BATCHES}, "device must be cpu, cuda or cuda:N, got 'meta'"),
        ("epochs=0", {"train": BATCHES}, "epochs must be at least 1, got 0"),
        ("lr=0", {"train": BATCHES}, "lr must be above 0, got 0.0"),
        ("ema=1", {"train": BATCHES}, "ema must be from 0 to below 1, got 1.0"),
        ("every=5", {"train": BATCHES}, "every says when to write the checkpoint, and there is none"),
    ],
)
def test_bad_input(options: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(tersor.TersorError, match=rf"^pass 'finetune' \(1 of 1\): .*{message}"):
        tersor.transform(graph(), f"finetune{{{options}}}" if options else "finetune", **given)


def test_a_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        found = tersor.transform(graph(), "finetune{steps=3 device=cuda}", train=BATCHES)
        expected = tersor.transform(graph(), "finetune{steps=3}", train=BATCHES)
        torch.testing.assert_close(found(X), expected(X), rtol=1e-2, atol=1e-2)
    else:
        with pytest.raises(tersor.TersorError, match="torch finds no CUDA device here; device=cpu trains on the processor"):
            tersor.transform(graph(), "finetune{device=cuda}", train=BATCHES)


def test_graphs_that_cannot_be_trained_so() -> None:
    w = Const(np.random.rand(4, 6).astype(np.float32))
    two = graph_of(lambda x: [irops.Relu(x), irops.Linear(x, w)], (4, 6))
    with pytest.raises(tersor.TersorError, match=r"one output of logits \(N, classes, ...\), and the graph gives \[8, 6\], \[8, 4\]; train others"):
        tersor.transform(two, "finetune{batch=8}", train=(torch.randn(16, 6), torch.zeros(16, dtype=torch.int64)))
    bare = graph_of(lambda x: irops.Relu(x), (4, 6))
    with pytest.raises(tersor.TersorError, match="has no constant that training may change"):
        tersor.transform(bare, "finetune{batch=8}", train=(torch.randn(16, 6), torch.zeros(16, dtype=torch.int64)))


def test_infinities_that_the_graph_holds_are_no_divergence() -> None:
    w, mask = Const(np.random.rand(4, 6).astype(np.float32)), Const(np.array([[0, 0, 0, -np.inf]], np.float32))
    masked = graph_of(lambda x: irops.Maximum(irops.Linear(x, w), mask), (4, 6))
    x = torch.randn(16, 6)
    found = tersor.transform(masked, "finetune{epochs=2 batch=8}", train=(x, torch.arange(16) % 4))
    assert len(found.report["finetune"].layers) == 2 and not torch.equal(found(x), masked(x))


def test_a_batch_that_is_fixed_stays() -> None:
    fixed = tersor.trace(eager(), (torch.zeros(8, 1, 12, 12),), batch=False)
    found = tersor.transform(fixed, "finetune{epochs=1 validate=0.1}", train=(X, Y))
    assert found.report["finetune"].layers[0].steps == (256 - 26) // 8


def test_progress_says_loss_and_accuracy() -> None:
    lines: list[tuple[str, int, int]] = []
    tersor.transform(graph(), "finetune{epochs=2}", train=BATCHES, progress=lambda *x: lines.append(x))
    told = [line for line in lines if line[0].startswith("finetune")]
    assert [(done, total) for _, done, total in told] == [(i, 8) for i in range(1, 9)]
    assert told[4][0].startswith("finetune: epoch 2/2, loss ") and told[4][0].endswith(" %") and ", accuracy " in told[4][0]


def test_it_repairs_what_pruning_cost() -> None:
    """In one pipeline; the teacher is the network before it."""
    full = tersor.transform(graph(), "finetune{epochs=6 lr=0.01}", train=shapes(512), seed=1)
    prune = "prune-channels{ratio=0.75 method=random per_layer=uniform reconstruct=false}"
    tune = "finetune{epochs=4 lr=0.01 distill_weight=0.7}"
    found = tersor.transform(full, f"{prune},{tune}", train=shapes(512), calibration=[X[:32]], evaluate=accuracy)
    before, pruned, tuned = found.report
    assert tuned.macs == pruned.macs < 0.6 * before.macs
    assert before.accuracy is not None and pruned.accuracy is not None and tuned.accuracy is not None
    assert pruned.accuracy < before.accuracy - 0.1, "else there was nothing to repair"
    assert tuned.accuracy > before.accuracy - 0.03
