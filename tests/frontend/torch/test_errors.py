"""What cannot be traced is refused in one line that says why, where, and what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frontend_checks import Calls
from torch import nn

from tersor.frontend import trace
from tersor.ir.errors import TersorError, UnsupportedError

X = torch.randn(1, 4, 6, 6)


def refuses(module: Any, inputs: Any, kind: type[TersorError] = TersorError, **options: Any) -> str:
    with warnings.catch_warnings(), pytest.raises(kind) as caught:
        warnings.simplefilter("ignore")
        trace(module, inputs, **options)
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    return message


def test_training_mode() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    assert refuses(module, X) == "Sequential is in training mode (1, 2); call model.eval() before trace"


def test_training_mode_of_a_module_without_batch_norm_or_dropout_does_not_matter() -> None:
    assert trace(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Dropout(0.0)), X).outputs


def test_functional_dropout_that_trains() -> None:
    message = refuses(Calls(lambda x: F.dropout(x)).eval(), X, UnsupportedError)
    assert "dropout in training mode; call model.eval(), and pass training=self.training to functional dropout" in message


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x * self.count


def test_a_buffer_that_forward_changes() -> None:
    assert refuses(Counter(), X, UnsupportedError).startswith("Counter.forward changes the buffer 'count': a graph keeps no state between runs")


class TrainingBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.mean, self.var, training=True)


def test_functional_batch_norm_that_trains() -> None:
    message = refuses(TrainingBatchNorm().eval(), X, UnsupportedError)
    assert "changes the buffer 'mean', 'var'" in message and "call model.eval()" in message


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x


def test_data_dependent_control_flow() -> None:
    message = refuses(Branching(), X, UnsupportedError)
    line = Branching.forward.__code__.co_firstlineno + 1
    assert message.startswith("Branching.forward decides by the values of a tensor at ")
    assert f"test_errors.py:{line}, which a graph without control flow cannot hold; compute both sides and choose with torch.where" in message


def test_data_dependent_shape() -> None:
    message = refuses(Calls(lambda x: x[x > 0]), X, UnsupportedError)
    assert "Calls.forward makes a tensor whose shape depends on the values of another; shapes must be static [" in message


def test_data_dependent_number() -> None:
    message = refuses(Calls(lambda x: x * x.max().item()), X, UnsupportedError)
    assert "gives the value of a tensor to aten.mul.Tensor as a Python number; keep it a tensor (no .item())" in message


def test_conditional_operator() -> None:
    module = Calls(lambda x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y * 3, (x,)))
    message = refuses(module, X, UnsupportedError)
    assert "out of scope: it is control flow, and a graph has none" in message and "not supported yet" not in message


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.digamma(x)
        return torch.igamma(torch.polygamma(1, x), x) + torch.digamma(y)


def test_all_unsupported_operators_at_once_with_places_and_how_to_add_one() -> None:
    message = refuses(nn.Sequential(nn.ReLU(), Unknown()), X, UnsupportedError)
    first = Unknown.forward.__code__.co_firstlineno + 1
    assert message.startswith("Sequential uses 3 operators that Tersor cannot convert: ")
    assert f"aten.digamma.default [1 at tests/frontend/torch/test_errors.py:{first}; 1 at tests/frontend/torch/test_errors.py:{first + 1}]" in message
    assert f"aten.polygamma.default [1 at tests/frontend/torch/test_errors.py:{first + 1}]" in message
    assert "aten.igamma.default" in message and "what has no reason is not supported yet; to add one" in message
    assert 'decorate a function (call, *args) -> op with @tersor.frontend.converter("aten.digamma.default")' in message


FORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "pooling of integers": (lambda: Calls(lambda x: F.avg_pool1d(x.long(), 2)), (1, 1, 4), "an average of i64; valid: floats"),
    "places of another's elements": (lambda: Calls(lambda x: x.t().as_strided((2, 2), (1, 2))), (4, 4), "of a view, or of a tensor in another order"),
    "indexing by a mask": (lambda: Calls(lambda x: x[x > 0]), (4, 4), "shape depends on the values of another; shapes must be static"),
    "values by a mask and an index": (lambda: Calls(lambda x: x.index_put((x[:, 0] > 0, x[0] > 0), x[:1])), (4, 4), "a mask and other indices"),
    "a step of backpropagation": (
        lambda: Calls(lambda x: torch.ops.aten.upsample_nearest2d_backward(x, [2, 2], [1, 1, 1, 1])),
        (1, 1, 2, 2),
        "out of scope: it is a step of backpropagation",
    ),
    "random numbers": (lambda: Calls(lambda x: x + torch.randn(4)), (1, 4), "it draws random numbers, and a graph computes the same on every run"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_without_an_equivalent(name: str) -> None:
    make, shape, why = FORMS[name]
    assert why in refuses(make(), torch.randn(shape), UnsupportedError)


def test_complex_numbers() -> None:
    message = refuses(nn.ReLU(), X.to(torch.complex64), UnsupportedError)
    assert message.startswith("example input 0 is torch.complex64: complex numbers are not supported; valid: bool,")
    assert "is torch.complex64: complex numbers are not supported" in refuses(Calls(lambda x: torch.fft.fft(x).abs()), X, UnsupportedError)
    module = nn.Linear(2, 2, dtype=torch.complex64)
    assert refuses(module, torch.randn(1, 2), UnsupportedError).startswith("'weight' of Linear is torch.complex64: complex numbers are not supported")


def test_dtype_without_an_element_type() -> None:
    message = refuses(nn.ReLU(), X.to(torch.uint16), UnsupportedError)
    assert message.startswith("example input 0 is torch.uint16: torch.uint16 is not supported; valid: bool, int8,")


def test_not_a_module() -> None:
    assert refuses(lambda x: x, X) == "trace takes a torch.nn.Module, got function"


def test_inputs_that_do_not_fit_forward() -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    message = refuses(Two(), X)
    assert message.startswith("Two.forward(a: ") and message.endswith("does not fit the example inputs: missing a required argument: 'b', got 1")
    assert refuses(Two(), (X, X, X)).endswith("does not fit the example inputs: too many positional arguments, got 3")
    assert refuses(Two(), {"a": X, "c": X}).endswith("missing a required argument: 'b', got 2")


def test_example_inputs_that_are_no_tensors() -> None:
    assert refuses(nn.ReLU(), "x") == "example inputs are a torch.Tensor, a tuple of forward's arguments or a dict of them by name; got str"
    assert refuses(nn.ReLU(), (3,)).startswith("example inputs hold no torch.Tensor")
    assert refuses(nn.ReLU(), torch.randn(0, 3)) == "example input 0 has shape (0, 3): an empty tensor cannot be traced (out of scope)"


@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr])
def test_sparse_tensors_are_out_of_scope(convert: Any) -> None:
    """A torch.export of CSR tensors may end the process."""
    message = refuses(Calls(lambda x, y: x @ y), (convert(torch.eye(3)), torch.ones(3, 3)), UnsupportedError)
    assert message.startswith("example input 0 is a tensor of layout torch.sparse_")
    assert message.endswith("valid: dense tensors, such as .to_dense() gives (sparse ones are out of scope)")


def test_input_names_of_another_count() -> None:
    assert refuses(nn.ReLU(), X, input_names=["a", "b"]) == "ReLU has 1 tensor inputs (input), got 2 input_names"


def test_input_names_twice() -> None:
    assert refuses(Calls(lambda x, y: x + y), (X, X), input_names=["a", "a"]) == "duplicate input name 'a'"


class Raising(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no weights for this size\nsee the manual")


def test_an_error_of_the_model_itself() -> None:
    message = refuses(nn.Sequential(Raising()), X)
    line = Raising.forward.__code__.co_firstlineno + 1
    assert message == (
        f"Sequential itself fails on the example inputs at tests/frontend/torch/test_errors.py:{line}: no weights for this size; "
        "valid: inputs that the module runs on"
    )


def test_a_limit_of_torch_export_is_out_of_scope() -> None:
    """An operator of the user's that torch can run and not trace."""

    @torch.library.custom_op("tersor_test::without_fake", mutates_args=())
    def without_fake(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    message = refuses(Calls(lambda x: without_fake(x)), X, UnsupportedError)
    assert message.startswith("torch.export cannot trace Calls at tests/frontend/torch/test_errors.py:")
    assert "the module runs, so this is a limit of torch.export (out of scope: only what torch exports can be traced;" in message


def test_shapes_that_do_not_fit_the_model() -> None:
    assert "to have 3 channels, but got 4 channels" in refuses(nn.Conv2d(3, 4, 1), X)


def test_results_that_are_no_tensors() -> None:
    assert (
        refuses(Calls(lambda x: (x, 3)), X, UnsupportedError)
        == "Calls.forward returns a int in its result[1]; a graph returns tensors (other results are out of scope)"
    )
    message = refuses(Calls(lambda x: {"n": x.shape[0], "x": x}), X, UnsupportedError)
    assert message == "Calls.forward returns a int in its result['n']; a graph returns tensors (other results are out of scope)"
    assert refuses(Calls(lambda x: None), X, UnsupportedError) == "Calls.forward returns no tensor"


def test_a_scripted_module() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.ReLU())
    assert refuses(scripted, X).startswith("trace takes a torch.nn.Module written in Python, got a TorchScript module")
