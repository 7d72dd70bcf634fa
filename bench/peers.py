"""Adapters: how each engine gets a torch module, and how it runs it with a fixed number of threads in float32.

`prepare` writes the file that an engine opens, in the process of the bench; `open` runs in the engine's own process (serve.py).
An engine that is not installed or cannot take a network raises; the benches report it by name with the reason.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

#: One image batch in NCHW to the network's result.
Run = Callable[[np.ndarray], np.ndarray]

#: Environment variable: the Python that has litert-torch, if not this one; its requirements contradict constraints.txt.
LITERT_PYTHON = "TERSOR_LITERT_PYTHON"


class Unavailable(Exception):
    """Why an engine is left out."""


@dataclass(frozen=True)
class Source:
    """What engines are made from: a torch module in evaluation mode and an input of the compiled batch, NCHW float32; files go to `folder`."""

    module: Any
    x: np.ndarray
    folder: Path

    @functools.cached_property
    def example(self) -> Any:
        import torch

        return torch.from_numpy(self.x)

    @functools.cached_property
    def graph(self) -> Any:
        import tersor

        return tersor.trace(self.module, (self.example,))

    @functools.cached_property
    def pickled(self) -> Path:
        """The module, by torch.save."""
        import torch

        path = self.folder / "model.pt"
        torch.save(self.module, path)
        return path

    @functools.cached_property
    def onnx(self) -> Path:
        """By torch's own exporter: batch norms folded, opset 17."""
        import torch

        path = self.folder / "model.onnx"
        with warnings.catch_warnings():
            # the exporter that is not deprecated needs onnxscript, and gives the same graph for these networks
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            try:
                torch.onnx.export(self.module, (self.example,), str(path), opset_version=17, dynamo=False)
            finally:
                logging.disable(logging.NOTSET)
        return path


@dataclass(frozen=True)
class Adapter:
    """One engine: the distributions that it needs, the first of which is its version; `prepare(source, threads)` and `open(path, threads)`."""

    distributions: tuple[str, ...]
    prepare: Callable[[Source, int], Path]
    open: Callable[[str, int], Run]

    def installed(self) -> dict[str, str]:
        """Versions of what it needs, as far as it is installed."""
        found = {}
        for name in self.distributions:
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
        return found

    def require(self) -> None:
        """Raises Unavailable where something is missing."""
        if missing := [name for name in self.distributions if name not in self.installed()]:
            raise Unavailable(f"{' and '.join(missing)} not installed")


# -- tersor, torch, onnxruntime ----------------------------------------------------------------


def prepare_tersor(source: Source, threads: int) -> Path:
    """A .tso; its thread count is in its code."""
    import tersor

    path = source.folder / f"model_{threads}.tso"
    tersor.compile(source.graph, threads=threads, batch=len(source.x)).save(path)
    return path


def open_tersor(path: str, threads: int) -> Run:
    import tersor

    exe = tersor.load_compiled(path)

    def run(x: np.ndarray) -> np.ndarray:
        y = exe(x)
        return np.asarray(y[0] if isinstance(y, tuple | list) else y)

    return run


def _torch_run(module: Any) -> Run:
    import torch

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(x)).numpy())

    return run


def open_torch(path: str, threads: int) -> Run:
    """Eager, in inference mode."""
    import torch

    torch.set_num_threads(threads)
    return _torch_run(torch.load(path, weights_only=False).eval())


def open_torch_compile(path: str, threads: int) -> Run:
    """Inductor with freezing, which folds batch norms and packs weights; the whole network as one graph. Needs g++."""
    # before the import: no pool of compiler processes that would stay beside the measurement
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    import torch
    import torch._inductor.config as inductor

    torch.set_num_threads(threads)
    inductor.freezing = True
    return _torch_run(torch.compile(torch.load(path, weights_only=False).eval(), fullgraph=True))


def open_onnxruntime(path: str, threads: int) -> Run:
    """An .onnx on the CPU provider, all graph optimizations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


# -- openvino, MNN, ncnn, LiteRT ---------------------------------------------------------------


def open_openvino(path: str, threads: int) -> Run:
    """One stream for latency; float32 also where the processor has bf16. One infer request is used again and again."""
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda x: np.array(request.infer({0: x}, share_inputs=True)[0])


def prepare_mnn(source: Source, threads: int) -> Path:
    """From ONNX by the converter's function: the package's command `mnnconvert` installs a usage logger and reports to it."""
    return mnn_from_onnx(source.onnx, source.folder / "model.mnn")


def mnn_from_onnx(model: Path, path: Path) -> Path:
    """Convert an .onnx file to `path`."""
    mnn_tool("mnnconvert", "-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(path), "--bizCode", "tersor", result=path)
    return path


def mnn_tool(name: str, *arguments: str, result: Path) -> None:
    """Run a converter of MNN's, which writes `result`."""
    _tool([sys.executable, "-c", f"import _tools; _tools.{name}({[name, *arguments]})"], result)


def open_mnn(path: str, threads: int, precision: str = "high") -> Run:
    """`precision=high`: float32 throughout, where layers are not integers."""
    import MNN

    net = MNN.Interpreter(path)
    session = net.createSession({"backend": "CPU", "numThread": threads, "precision": precision})
    given, result = net.getSessionInput(session), net.getSessionOutput(session)
    host = MNN.Tensor(result.getShape(), MNN.Halide_Type_Float, np.zeros(result.getShape(), np.float32), MNN.Tensor_DimensionType_Caffe)

    def run(x: np.ndarray) -> np.ndarray:
        given.copyFrom(MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe))
        net.runSession(session)
        result.copyToHostTensor(host)
        return np.array(host.getNumpyData())

    return run


def prepare_ncnn(source: Source, threads: int) -> Path:
    """From TorchScript by pnnx, for a batch of one, weights kept in float32."""
    import torch

    script = source.folder / "ncnn.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(source.module, source.example[:1]).save(str(script))  # type: ignore[no-untyped-call]
    shape = ",".join(map(str, (1, *source.x.shape[1:])))
    spec = importlib.util.find_spec("pnnx")
    assert spec is not None and spec.origin is not None
    path = script.with_suffix(".ncnn.param")
    _tool([str(Path(spec.origin).parent / "pnnx"), script.name, f"inputshape=[{shape}]", "fp16=0"], path)
    return path


def open_ncnn(path: str, threads: int) -> Run:
    """float32 storage and arithmetic. ncnn knows no batch: the images of one follow each other."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    if net.load_param(path) or net.load_model(path.removesuffix("param") + "bin"):
        raise RuntimeError(f"ncnn does not load {path}")
    given, result = net.input_names()[0], net.output_names()[0]

    def one(image: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input(given, ncnn.Mat(image))
        code, y = extractor.extract(result)
        if code:
            raise RuntimeError(f"ncnn stops with code {code}")
        return np.array(y)

    return lambda x: np.stack([one(image) for image in x])


_CONVERT = """
import sys, torch, litert_torch
program = torch.export.load(sys.argv[1])
example = torch.load(sys.argv[2])
litert_torch.convert(program.module(), (example,)).export(sys.argv[3])
"""


def prepare_litert(source: Source, threads: int) -> Path:
    """From torch.export by litert-torch, in the Python that has it."""
    import torch

    program, example, path = (source.folder / name for name in ("litert.pt2", "litert_x.pt", "model.tflite"))
    with torch.no_grad():
        torch.export.save(torch.export.export(source.module, (source.example,)), program)
    torch.save(source.example, example)
    _tool([litert_python(), "-c", _CONVERT, str(program), str(example), str(path)], path)
    return path


def litert_python() -> str:
    """The Python with the converter of LiteRT: this one, else the one that the environment variable names."""
    if importlib.util.find_spec("litert_torch"):
        return sys.executable
    if not (python := os.environ.get(LITERT_PYTHON)):
        raise Unavailable(f"litert-torch is not installed, and {LITERT_PYTHON} names no Python that has it")
    return python


def open_litert(path: str, threads: int) -> Run:
    """With the XNNPACK delegate, which LiteRT applies by itself."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result))

    return run


def _tool(command: list[str], result: Path) -> None:
    """Run a converter in the folder of its result; its output is shown only where there is no result."""
    done = subprocess.run(command, cwd=result.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode or not result.exists():
        lines = done.stdout.strip().splitlines() or ["no message"]
        raise RuntimeError(f"the converter ended with code {done.returncode}: {lines[-1][:300]}")


def _pickled(source: Source, threads: int) -> Path:
    return source.pickled


def _onnx(source: Source, threads: int) -> Path:
    return source.onnx


ADAPTERS: dict[str, Adapter] = {
    "tersor": Adapter(("tersor", "apache-tvm", "apache-tvm-ffi"), prepare_tersor, open_tersor),
    "onnxruntime": Adapter(("onnxruntime", "onnx"), _onnx, open_onnxruntime),
    "torch": Adapter(("torch",), _pickled, open_torch),
    "torch.compile": Adapter(("torch",), _pickled, open_torch_compile),
    "openvino": Adapter(("openvino", "onnx"), _onnx, open_openvino),
    "MNN": Adapter(("mnn", "onnx"), prepare_mnn, open_mnn),
    "ncnn": Adapter(("ncnn", "pnnx"), prepare_ncnn, open_ncnn),
    "LiteRT": Adapter(("ai-edge-litert",), prepare_litert, open_litert),
}

#: What the demo and the tests need, and what is installed with the extra `bench`.
USUAL = ("tersor", "onnxruntime", "torch")


def prepare(module: Any, x: np.ndarray, folder: Path, threads: int, engines: Iterable[str] = USUAL) -> dict[str, Path]:
    """The files that engines open, for a torch module at the input `x`; an engine that cannot raises."""
    source = Source(module, x, folder)
    return {name: ADAPTERS[name].prepare(source, threads) for name in engines}
