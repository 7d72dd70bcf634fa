"""An object file becomes a shared library: the one step that needs a C compiler, and only when a model is saved."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ...ir.errors import TersorError
from ..target import Target

#: Compilers that link for an architecture, and the Debian package that has the first one.
_LINKERS = {
    "x86_64": (("x86_64-linux-gnu-gcc",), "gcc"),
    "aarch64": (("aarch64-linux-gnu-gcc",), "gcc-aarch64-linux-gnu"),
}


def linker(target: Target) -> str:
    """The C compiler that links for the target: `$CC` or the system's own where it is this architecture, else a cross compiler."""
    arch = target.triple.partition("-")[0]
    cross, package = _LINKERS[arch]
    native = arch == os.uname().machine
    names = [os.environ["CC"]] if native and os.environ.get("CC") else []
    names += ["cc", "gcc", "clang"] if native else []
    for name in (*names, *cross):
        if found := shutil.which(name):
            return found
    looked = ", ".join((*names, *cross))
    raise TersorError(f"saving a model for {target.name} takes a C compiler, and there is none ({looked}): apt-get install {package}, or set CC")


def link(module: Any, target: Target) -> bytes:
    """The shared library of a TVM module. Symbols of the TVM runtime stay open until it is loaded."""
    compiler = linker(target)
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        source, result = Path(folder) / "model.o", Path(folder) / "model.so"
        module.write_to_file(str(source), "o")
        done = subprocess.run([compiler, "-shared", "-o", str(result), str(source), "-lm", "-Wl,-z,noexecstack"], capture_output=True, text=True)
        if done.returncode:
            raise TersorError(f"{compiler} failed to link the model: {' '.join(done.stderr.split())}")
        return result.read_bytes()
