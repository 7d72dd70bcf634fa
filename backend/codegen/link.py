"""Link object files to a shared library, the only step that needs a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
    raise TersorError(f"linking a model for {target.name} takes a C compiler, and there is none ({looked}): apt-get install {package}, or set CC")


#: The exported symbols of a library: host functions, and the pointers that its loader fills in.
_VISIBLE = "{ global: __tvm*; __TVM*; local: *; };\n"


def link(objects: Sequence[Path], target: Target) -> bytes:
    """The shared library of object files. Symbols of the TVM runtime stay undefined until it is loaded."""
    compiler = linker(target)
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        visible, result = Path(folder) / "visible", Path(folder) / "model.so"
        visible.write_text(_VISIBLE)
        options = ["-shared", "-nostartfiles", f"-Wl,--version-script={visible}", "-Wl,-z,noexecstack"]
        done = subprocess.run([compiler, *options, "-o", str(result), *map(str, objects), "-lm"], capture_output=True, text=True)
        if done.returncode:
            raise TersorError(f"{compiler} failed to link the model: {' '.join(done.stderr.split())}")
        return result.read_bytes()
