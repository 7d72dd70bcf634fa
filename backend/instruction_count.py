"""How many instructions one call of a model takes, counted by qemu: a figure that is the same on every machine and run, to two thousandths.

It says when a change makes code of another processor longer; it is no time, since instructions differ in cost and memory is not modelled.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import TersorError
from .codegen.link import linker
from .runtime.model import CompiledModel

#: A plugin of qemu (docs/devel/tcg-plugins of qemu): it adds the size of every block of instructions that runs, and writes the sum at the end.
_PLUGIN = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
struct qemu_plugin_tb;
typedef uint64_t qemu_plugin_id_t;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = API;
static uint64_t count;
static char path[4096];
static void run(unsigned cpu, void *size) { count += (uint64_t)(uintptr_t)size; }
static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  qemu_plugin_register_vcpu_tb_exec_cb(block, run, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}
static void end(qemu_plugin_id_t id, void *data) {
  FILE *file = fopen(path, "w");
  if (file) { fprintf(file, "%llu", (unsigned long long)count); fclose(file); }
}
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  if (argc != 1 || strncmp(argv[0], "path=", 5) || strlen(argv[0]) >= sizeof path) return 1;
  strcpy(path, argv[0] + 5);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
  qemu_plugin_register_atexit_cb(id, end, NULL);
  return 0;
}
"""
#: Instructions of several calls, over which those of a small model are averaged.
FEW = 100_000_000
#: Versions of the plugin interface that have these functions as they are.
_VERSIONS = (1, 2, 3, 4, 5)


def instruction_count(model: CompiledModel, inputs: Sequence[np.ndarray], expected: Any = None) -> int:
    """Instructions of one call of a compiled model on one thread, for its own target, run by qemu.

    inputs: of the call; expected: its outputs, where this machine cannot compute them. The model becomes a C export, whose program compares its
    outputs first. Raises `TersorError` where qemu, a compiler for the target or one for this machine is missing.
    """
    arch = model.target.triple.partition("-")[0]
    qemu = shutil.which(f"qemu-{arch}")
    if qemu is None:
        raise TersorError(f"instructions are counted by qemu-{arch}, which is missing: apt-get install qemu-user")
    with tempfile.TemporaryDirectory(prefix="tersor-") as name:
        folder = Path(name)
        model.export_c(folder / "c", inputs, expected)
        _run("make", "-s", "-C", str(folder / "c"), "model_test", "LDFLAGS=-static", f"CC={linker(model.target)}")
        plugin = _plugin(folder, qemu)
        # what the program does around its calls takes about the same for any number of them; prints of times differ by some thousand instructions
        once = _counted(qemu, plugin, folder, 1)
        more = max(1, min(50, FEW // once))
        return round((_counted(qemu, plugin, folder, 1 + more) - once) / more)


def _plugin(folder: Path, qemu: str) -> Path:
    """The plugin, for the version of the interface that qemu has."""
    source, path = folder / "count.c", folder / "count.so"
    source.write_text(_PLUGIN)
    compiler = shutil.which("cc")
    if compiler is None:
        raise TersorError("counting instructions takes a C compiler: apt-get install gcc")
    said = ""
    for version in _VERSIONS:
        _run(compiler, "-shared", "-fPIC", "-O2", f"-DAPI={version}", "-o", str(path), str(source))
        done = subprocess.run(
            [qemu, "-cpu", "max", "-plugin", f"{path},path={folder / 'count'}", str(folder / "c" / "model_test"), "0"],
            cwd=folder / "c", capture_output=True, text=True,
        )  # fmt: skip
        if not done.returncode and (folder / "count").exists():
            return path
        said = " ".join((done.stderr or done.stdout).split())[-300:]
    raise TersorError(f"{qemu} does not load the plugin that counts instructions: {said}")


def _counted(qemu: str, plugin: Path, folder: Path, calls: int) -> int:
    """Instructions of the whole program."""
    _run(qemu, "-cpu", "max", "-plugin", f"{plugin},path={folder / 'count'}", "./model_test", str(calls), cwd=folder / "c")
    return int((folder / "count").read_text())


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise TersorError(f"{Path(command[0]).name} failed: {' '.join((done.stderr or done.stdout).split())[-300:]}")
