"""Make a static library of an object with kernels and a host function: one visible symbol, and only functions of libm undefined."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...ir.errors import TersorError, UnsupportedError
from ..codegen.link import linker
from ..emit.code import Code
from ..runtime.native import _CODES
from ..target import Target
from .interface import Argument, Interface

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
#: Compiler flags for code that does not call libc.
_FREESTANDING = ("-O3", "-fPIC", "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-tree-loop-distribute-patterns")
#: Symbols that kernels may call: functions of libm, for double precision.
_ALLOWED = re.compile(
    r"(exp|exp2|expm1|log|log2|log10|log1p|pow|sqrt|sin|cos|tan|asin|acos|atan|atan2|sinh|cosh|tanh|asinh|acosh|atanh)f?"
    r"|(erf|erfc|fmod|floor|ceil|round|nearbyint|rint|trunc|fabs|fmin|fmax|fma|ldexp|copysign)f?"
)

_SOURCE = """
#include <stddef.h>

#include "{name}.h"

/* The calling convention of the code that TVM makes (tvm/ffi/c_api.h). */
typedef struct {{
  void *data;
  int32_t device_type, device_id, rank;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
}} Tensor;
typedef struct {{
  int32_t kind;
  uint32_t padding;
  int64_t value;
}} Value;

int __tvm_ffi_{function}(void *self, const Value *args, int32_t count, Value *result);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

/* The host function says what is wrong with its arguments; here they are always right. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {{
  (void)kind, (void)parts, (void)count;
}}

/* LLVM makes calls of loops that copy. These stay inside the library. */
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

void *memcpy(void *restrict to, const void *restrict from, size_t size) {{
  unsigned char *restrict y = to;
  const unsigned char *restrict x = from;
  for (size_t i = 0; i < size; ++i) y[i] = x[i];
  return to;
}}

void *memmove(void *to, const void *from, size_t size) {{
  unsigned char *y = to;
  const unsigned char *x = from;
  if ((uintptr_t)y - (uintptr_t)x >= size) {{
    for (size_t i = 0; i < size; ++i) y[i] = x[i];
  }} else {{
    while (size--) y[size] = x[size];
  }}
  return to;
}}

void *memset(void *to, int value, size_t size) {{
  unsigned char *y = to;
  for (size_t i = 0; i < size; ++i) y[i] = (unsigned char)value;
  return to;
}}

static void give(Tensor *t, Value *v, int64_t *size, const void *data, uint8_t code, uint8_t bits) {{
  t->data = (void *)(intptr_t)data;
  t->device_type = 1, t->device_id = 0, t->rank = 1;
  t->code = code, t->bits = bits, t->lanes = 1;
  t->shape = size, t->strides = 0, t->byte_offset = 0;
  v->kind = 7, v->padding = 0, v->value = (int64_t)(intptr_t)t;
}}

static void give_integer(Value *v, int64_t value) {{
  v->kind = 1, v->padding = 0, v->value = value;
}}

{signature} {{
  Tensor t[{tensors}];
  int64_t size[{tensors}];
  Value v[{tensors} + 3], result;
{checks}
{gives}
  give_integer(&v[{tensors}], 0);
  give_integer(&v[{tensors} + 1], {steps});
  give_integer(&v[{tensors} + 2], 0);
  give_integer(&result, 0);
{clear}
  if (__tvm_ffi_{function}(0, v, {tensors} + 3, &result)) return {macro}_FAILED;
{look}
  return {macro}_OK;
}}
"""


def source(interface: Interface) -> str:
    """The C source of `NAME_run`, which passes raw pointers to the host function in its calling convention."""
    entry, ports = interface.entry, [*interface.inputs, *interface.outputs]
    given = [(size_of(a), a.name, _CODES[a.port.dtype.kind], a.port.dtype.itemsize * 8) for a in ports]
    given += [(interface.weights, "weights", 1, 8), (interface.arena, "arena", 1, 8)]
    aligned = ["weights", "arena", *(a.name for a in ports if not a.port.unaligned)]
    records = [f"((int64_t *)((char *)arena + {entry.arena - entry.records}))[{i}]" for i in range(0, entry.records // 8, 2)]
    return _SOURCE.format(
        name=interface.name,
        macro=interface.macro,
        function=entry.function,
        signature=interface.signature,
        tensors=len(given),
        steps=len(entry.steps),
        checks=f"  if (({' | '.join(f'(uintptr_t){n}' for n in aligned)}) % {interface.macro}_ALIGN) return {interface.macro}_MISALIGNED;",
        gives="\n".join(
            f"  size[{i}] = {n}, give(&t[{i}], &v[{i}], &size[{i}], {what}, {code}, {bits});" for i, (n, what, code, bits) in enumerate(given)
        ),
        clear="\n".join(f"  {r} = 0;" for r in records),
        look=f"  if ({' | '.join(records)}) return {interface.macro}_BAD_INDEX;" if records else "",
    )


def size_of(argument: Argument) -> int:
    """Number of elements, as the host function checks it."""
    return max(argument.port.type.size, 1)


def write_library(code: Code, interface: Interface, folder: Path) -> list[str]:
    """Write `libNAME.a` beside `NAME.h`; returns its undefined symbols, which can only be functions of libm."""
    target, name = interface.manifest.target, interface.name
    compiler = linker(target)
    work = folder / "work"
    work.mkdir()
    code.write_object(work / "kernels.o")
    (work / "run.c").write_text(source(interface))
    _run(compiler, *WARNINGS, *_FREESTANDING, f"-I{folder}", "-c", str(work / "run.c"), "-o", str(work / "run.o"))
    whole = work / f"{name}.o"
    _run(compiler, "-r", "-nostdlib", "-o", str(whole), str(work / "kernels.o"), str(work / "run.o"))
    # hide the names of kernels, so that a program may have several models
    _run(_binutil("objcopy", target), f"--keep-global-symbol={name}_run", str(whole))
    undefined = check_symbols(_run(_binutil("nm", target), "-P", str(whole)).splitlines())
    _run(_binutil("ar", target), "rcsD", str(folder / f"lib{name}.a"), str(whole))
    shutil.rmtree(work)
    return undefined


def check_symbols(symbols: Sequence[str]) -> list[str]:
    """The undefined symbols in the output of `nm -P`. Raises `UnsupportedError` for those of TVM's runtime or an allocator."""
    rows = [line.split() for line in symbols]
    undefined = [row[0] for row in rows if row[1] == "U"]
    wrong = [name for name in undefined if not _ALLOWED.fullmatch(name)] + [row[0] for row in rows if row[0].startswith("__TVMBackend")]
    if wrong:
        raise UnsupportedError(
            f"a kernel of this model calls {', '.join(wrong)}, which a C library without a runtime does not have: save() it as .tso"
        )
    return undefined


def _binutil(tool: str, target: Target) -> str:
    """`objcopy`, `ar` or `nm` for the target."""
    arch = target.triple.partition("-")[0]
    name = tool if arch == os.uname().machine else f"{arch}-linux-gnu-{tool}"
    if found := shutil.which(name):
        return found
    package = "binutils" if name == tool else f"binutils-{arch.replace('_', '-')}-linux-gnu"
    raise TersorError(f"a C export for {target.name} takes {name}, and there is none: apt-get install {package}")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise TersorError(f"{command[0]} failed to make the library: {' '.join(done.stderr.split())}")
    return done.stdout
