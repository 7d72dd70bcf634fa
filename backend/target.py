"""Targets: the facts about a processor that kernels use. No kernel looks at the host."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..ir.errors import TersorError

#: Features that LLVM uses by itself, in its spelling -> in that of /proc/cpuinfo. A library needs them; they are checked before it runs.
X86_FEATURES = {name: name for name in ("popcnt", "movbe", "bmi2", "adx", "f16c", "fma", "avx2", "gfni", "vaes", "vpclmulqdq")}
X86_FEATURES |= {name: name for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx512ifma", "avx512vbmi")}
X86_FEATURES |= {f"avx512{part}": f"avx512_{part}" for part in ("vbmi2", "vnni", "bitalg", "vpopcntdq", "bf16", "fp16")}
X86_FEATURES |= {"sse4.2": "sse4_2", "bmi": "bmi1", "lzcnt": "abm", "avxvnni": "avx_vnni"}
ARM_FEATURES = {name: name for name in ("i8mm", "bf16", "sve", "sve2")}
ARM_FEATURES |= {"neon": "asimd", "dotprod": "asimddp", "fullfp16": "asimdhp", "fp16fml": "asimdfhm", "rdm": "asimdrdm"}
ARM_FEATURES |= {"lse": "atomics", "rcpc": "lrcpc", "jsconv": "jscvt", "complxnum": "fcma"}
#: Names of processors that LLVM lists under another one.
ALIASES = {"apple-m1": "apple-a14"}
#: Caches of named processors in bytes: data of L1, and L2 of a core (of a cluster in the Cortex-A53 and A72, and of the M1's fast cores).
CACHES = {
    "cortex-a53": (32 << 10, 512 << 10),
    "cortex-a72": (32 << 10, 1 << 20),
    "cortex-a76": (64 << 10, 512 << 10),
    "neoverse-n1": (64 << 10, 1 << 20),
    "neoverse-v1": (64 << 10, 1 << 20),
    "apple-m1": (128 << 10, 12 << 20),
}
#: Processors whose pipelines LLVM models: multiply-add instructions on vectors that start in a cycle. Its models of the Cortex-A72, A76 and A78 are
#: the Cortex-A57's, and that of Apple's processors is another's; they are left out.
PORTS = {"cortex-a55": 1, "neoverse-n1": 2, "neoverse-v1": 4, "neoverse-n2": 2, "znver3": 2, "znver4": 2}
KINDS = "cpu (this machine), cpu:<llvm cpu name> such as cpu:znver3, arm64:<llvm cpu name> such as arm64:cortex-a72, "
KINDS += "opencl, cuda:sm_<capability> such as cuda:sm_90"


@dataclass(frozen=True)
class Target:
    """Facts of one processor. Sizes in bytes; `lanes` counts f32 in a vector register; `features` are named as in
    /proc/cpuinfo. kind: which list of `pipelines.PIPELINES` lowers for it. For a GPU: `block`, the most threads of a block, and `shared`, their
    bytes of shared memory, both as every GPU of the kind has them; `elem`, the type of feature maps and weights in memory, f32, f16 or bf16,
    or tf32: f32, which tensor cores round before they multiply."""

    name: str
    triple: str
    mcpu: str
    features: tuple[str, ...]
    lanes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 512 << 10
    cores: int = 1
    kind: str = field(default="cpu", kw_only=True)
    block: int = field(default=0, kw_only=True)
    shared: int = field(default=0, kw_only=True)
    elem: str = field(default="f32", kw_only=True)

    @property
    def masks(self) -> bool:
        """Whether masked vector stores are cheap (AVX-512)."""
        return "avx512f" in self.features and self.lanes == 16

    @property
    def by_element(self) -> bool:
        """Whether a multiply-add takes one of its factors from a lane of a register (NEON), and none from memory."""
        return self.triple.startswith("aarch64")

    @property
    def gpu(self) -> bool:
        return self.kind in ("opencl", "cuda")

    @property
    def capability(self) -> int:
        """CUDA's compute capability: 90 for sm_90; 0 for other targets."""
        found = re.match(r"sm_(\d+)", self.mcpu) if self.kind == "cuda" else None
        return int(found[1]) if found else 0

    @property
    def dot(self) -> str:
        """The x86 instruction that adds products of bytes to i32: `vnni` (vpdpbusd), `maddubs` (pmaddubsw), or none."""
        if (self.lanes == 16 and {"avx512_vnni", "avx512vl"} <= {*self.features}) or (self.lanes == 8 and "avx_vnni" in self.features):
            return "vnni"
        return "maddubs" if {"avx2", "sse4_2"} & {*self.features} else ""

    @property
    def popcounts(self) -> bool:
        """Whether an instruction counts the bits of each 32-bit element of a vector (vpopcntd)."""
        return self.lanes == 16 and "avx512_vpopcntdq" in self.features

    def tvm(self, threads: int = 1) -> Any:
        """The TVM target that generates code for it.

        `mattr` repeats the features that kernels use: where a machine hides features that its processor's name implies, `mcpu` is a lesser processor.
        """
        import tvm

        if self.kind != "cpu":
            return tvm.target.Target({"kind": self.kind} | ({"arch": self.mcpu} if self.mcpu else {}))
        named = {16: ("avx512vnni", "avx512vbmi", "avx512vpopcntdq"), 8: ("avxvnni",)}.get(self.lanes, ())
        asked = [f"+{llvm}" for llvm in named if X86_FEATURES[llvm] in self.features]
        hidden = {"mattr": asked} if asked and self.mcpu.startswith("x86-64-v") else {}
        return tvm.target.Target({"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu, "num-cores": max(threads, 1)} | hidden)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def resolve(target: str | Target) -> Target:
    """`"cpu"`, `"cpu:znver3"`, `"arm64:cortex-a72"` -> facts. Unknown names raise `TersorError` with what is valid."""
    if isinstance(target, Target):
        return target
    kind, _, cpu = target.partition(":")
    if kind == "cpu":
        return _host() if not cpu else _x86(target, cpu)
    if kind == "arm64":
        return _arm64(target, cpu or "cortex-a72")
    if target == "opencl":
        return Target(target, "", "", (), 1, 0, kind="opencl", block=256, shared=32 << 10)
    if kind == "cuda" and re.fullmatch(r"sm_\d+[a-z]?", cpu):
        return Target(target, "", cpu, (), 1, 255, kind="cuda", block=1024, shared=48 << 10)
    raise TersorError(f"unknown target {target!r}; valid: {KINDS}")


@functools.cache
def _host() -> Target:
    from tvm.target import codegen

    cpu, triple = str(codegen.llvm_get_system_cpu()), str(codegen.llvm_get_system_triple())
    facts = {"l1": cache_size(1), "l2": cache_size(2), "cores": len(os.sched_getaffinity(0))}
    if "x86_64" not in triple:
        return _arm64(f"arm64:{cpu}", cpu, **facts)
    return _x86(f"cpu:{cpu}", cpu, present=host_features(), **facts)


def _x86(name: str, cpu: str, present: frozenset[str] | None = None, **facts: Any) -> Target:
    triple = "x86_64-unknown-linux-gnu"
    known = _llvm_features(name, cpu, triple)
    promised = [name for llvm, name in X86_FEATURES.items() if llvm in known]
    features = tuple(f for f in promised if present is None or f in present)
    if "avx512f" in features:
        lanes, registers = 16, 32
    elif "avx2" in features and "fma" in features:
        lanes, registers = 8, 16
    else:
        lanes, registers = 4, 16
    if len(features) < len(promised):
        # A virtual machine may hide features that the processor's name implies.
        cpu = {16: "x86-64-v4", 8: "x86-64-v3", 4: "x86-64-v2"}[lanes]
    return Target(name, triple, cpu, features, lanes, registers, **facts)


def _arm64(name: str, cpu: str, **facts: Any) -> Target:
    triple = "aarch64-unknown-linux-gnu"
    if cpu in CACHES:
        facts = dict(zip(("l1", "l2"), CACHES[cpu])) | facts
    cpu = ALIASES.get(cpu, cpu)
    known = _llvm_features(name, cpu, triple)
    return Target(name, triple, cpu, tuple(name for llvm, name in ARM_FEATURES.items() if llvm in known), 4, 32, **facts)


def _llvm_features(name: str, cpu: str, triple: str) -> frozenset[str]:
    import tvm
    from tvm.target import codegen

    names = [str(c) for c in codegen.llvm_get_cpu_archlist(tvm.target.Target({"kind": "llvm", "mtriple": triple}))]
    if cpu not in names:
        some = ", ".join(n for n in names if re.match(r"x86-64-v|znver|skylake|sapphire|cortex-a7|neoverse", n))
        raise TersorError(f"unknown processor {cpu!r} in target {name!r}; valid are LLVM's names for {triple.split('-')[0]}, among them {some}")
    return frozenset(str(f) for f in codegen.llvm_get_cpu_features(tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu})))


@functools.cache
def host_features() -> frozenset[str]:
    """Feature flags of the processor that this process runs on; empty where the system does not report them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.M)
    return frozenset(match[1].split()) if match else frozenset()


def cache_size(level: int) -> int:
    """Bytes of this machine's data or unified cache of a level, of one core or shared; a guess where the system does not report it."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind = (index / "type").read_text().strip()
            if int((index / "level").read_text()) == level and kind in ("Data", "Unified"):
                size = (index / "size").read_text().strip()
                return int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]
        except (OSError, ValueError, KeyError):
            continue
    return {1: 32 << 10, 2: 512 << 10, 3: 32 << 20}[level]
