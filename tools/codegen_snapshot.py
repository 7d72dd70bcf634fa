"""Print a hash of the code that is generated for a dozen networks, for several targets and thread counts.

    python tools/codegen_snapshot.py -o before.json      # then change or move code
    python tools/codegen_snapshot.py -o after.json --compare before.json

A change that must not alter generated code (a move, a new name, a refactoring) leaves every hash unchanged. The hashes cover the TVM
module that is passed to LLVM (structure, types, constants, addresses) and the packed weights, but not names of symbols and variables.
`--assembly` compiles as well and hashes the disassembled machine code, which takes minutes a network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch
import tvm_ffi

import tersor
from tersor.backend.emit.module import Emitter
from tersor.backend.emit.recall import function_of
from tersor.bench.models import SEVEN, randomize
from tersor.bench.more_models import MORE

#: Networks, and the side of their input.
NETWORKS = {
    "resnet18": 224, "resnet50": 224, "mobilenet_v1": 224, "mobilenetv2": 224, "squeezenet1_1": 224, "shufflenetv2": 224, "vgg16": 224,
    "densenet121": 64, "efficientnet_b0": 96, "mobilenet_v3_large": 96, "regnet_y_400mf": 96, "unet": 64, "inception_v3": 149, "convnext_tiny": 64,
}  # fmt: skip
#: The last one has a shipped tuning database.
TARGETS = ("cpu", "cpu:x86-64-v3", "arm64:cortex-a72", "cpu:znver4")


def network(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """A network with random weights, and an input for it."""
    x = torch.randn(1, 3, NETWORKS[name], NETWORKS[name], generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    return randomize((SEVEN | MORE)[name](), (x,)), (x,)


def captured(graph: Any, target: str, threads: int, assembly: bool) -> dict[str, Any]:
    """Hashes of the module and of the weights, and how many kernels the tuning database chose."""
    seen: list[Emitter] = []
    generate = Emitter.code

    def capture(emitter: Emitter, progress: Any = None) -> Any:
        seen.append(emitter)
        return generate(emitter, progress) if assembly else SimpleNamespace(function=None, shared_library=None)

    Emitter.code = capture  # type: ignore[method-assign, assignment]
    try:
        exe = tersor.compile(graph, target, threads=threads)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        Emitter.code = generate  # type: ignore[method-assign]
    chosen = [step.chosen for entry in exe.manifest.entries for step in entry.steps]
    # hashes of functions in the order in which they were emitted: a function's own hash does not depend on names
    code = [f"{tvm_ffi.structural_hash(function_of(f).without_attr('global_symbol'), map_free_vars=True):x}" for f in seen[0].functions.values()]
    result = {
        "code": hashlib.sha256(" ".join(code).encode()).hexdigest()[:16],
        "weights": hashlib.sha256(exe._weights.tobytes()).hexdigest()[:16],
        "kernels": len(code),
        "tuned": chosen.count("tuned") + chosen.count("metaschedule"),
    }
    if assembly:
        result["assembly"] = hashlib.sha256(exe._code()).hexdigest()[:16]
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", help="write the hashes here")
    parser.add_argument("--compare", help="hashes of another run; differences are listed and the exit code is 1")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--assembly", action="store_true")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    for name in args.networks:
        module, inputs = network(name)
        graph = tersor.trace(module, inputs)
        for target in args.targets:
            for threads in args.threads:
                start = time.perf_counter()
                key = f"{name} {target} {threads}"
                result[key] = captured(graph, target, threads, args.assembly)
                print(key, *(f"{k}={v}" for k, v in result[key].items()), f"({time.perf_counter() - start:.1f} s)", flush=True)
    if args.out:
        with open(args.out, "w") as file:
            json.dump(result, file, indent=0)
    if args.compare:
        with open(args.compare) as file:
            before = json.load(file)
        changed = [key for key in result if before.get(key) != result[key]]
        for key in changed:
            print(f"differs: {key}: {before.get(key)} -> {result[key]}")
        print(f"{len(result) - len(changed)} of {len(result)} are the same")
        return int(bool(changed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
