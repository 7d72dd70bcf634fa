"""`main.c` (the example that tests itself and times the model), its recorded data, and the `Makefile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .interface import ALIGN, Argument, Interface

_MAIN = """\
/* Loads {name}.bin, runs the model on a recorded input, compares with the recorded output, and times it.

   {name}_test [CALLS [FILE]]     in the folder of {name}.bin and {name}_test.bin; exit code 0: the outputs are right
   FILE: where the outputs are written, one after the other */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "{name}.h"

/* Memory at a multiple of {macro}_ALIGN, with as much behind it; every bit is set, so that what is not written shows. */
static void *room(size_t size) {{
  char *p = (char *)malloc(size + 2 * {macro}_ALIGN);
  if (!p) {{
    fprintf(stderr, "no memory for %lu bytes\\n", (unsigned long)size);
    exit(2);
  }}
  p += {macro}_ALIGN - (uintptr_t)p % {macro}_ALIGN;
  return memset(p, 0xff, size);
}}

static void *load(const char *path, size_t size) {{
  void *p = room(size);
  FILE *file = fopen(path, "rb");
  if (!file || fread(p, 1, size, file) != size || fgetc(file) != EOF) {{
    fprintf(stderr, "%s: %s\\n", path, file ? "not the file that belongs to {name}.h" : "cannot be opened");
    exit(2);
  }}
  fclose(file);
  return p;
}}

{compare}

static double now(void) {{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}}

static int later(const void *x, const void *y) {{
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}}

int main(int argc, char **argv) {{
  int calls = argc > 1 ? atoi(argv[1]) : 20, wrong = 0, status, i;
  const void *weights = load("{name}.bin", {macro}_WEIGHTS_SIZE);
  char *test = (char *)load("{name}_test.bin", {size});
  void *arena = room({macro}_ARENA_SIZE);
{variables}
  double start, *ms;

  status = {call};
  if (status != {macro}_OK) {{
    fprintf(stderr, "{name}_run failed with code %d\\n", status);
    return 1;
  }}
{checks}
  if (argc > 2) {{
    FILE *file = fopen(argv[2], "wb");
    if (!file{writes} || fclose(file)) {{
      fprintf(stderr, "%s: cannot be written\\n", argv[2]);
      return 2;
    }}
  }}
  if (wrong) return 1;

  if (calls < 1) return 0;
  ms = (double *)room((size_t)calls * sizeof *ms);
  for (i = 0; i < calls; ++i) {{
    start = now();
    {call};
    ms[i] = now() - start;
  }}
  qsort(ms, (size_t)calls, sizeof *ms, later);
  printf("median %.4f ms, min %.4f, p90 %.4f; %d calls\\n", ms[calls / 2], ms[0], ms[calls * 9 / 10], calls);
  return 0;
}}
"""

#: Comparison with outputs of the same code: the same bits.
_SAME_BITS = """\
static int differs(const char *name, const void *y, const void *expected, size_t bytes) {
  int wrong = memcmp(y, expected, bytes) != 0;
  printf("%s: %s\\n", name, wrong ? "WRONG, other bits than recorded" : "the same bits as recorded");
  return wrong;
}"""

#: Comparison with outputs of the interpreter: floats within a tolerance, and NaN where one is expected.
_NEAR = """\
#define TOLERANCE 1e-4 /* of the largest expected value */

static double absolute(double x) {{ return x < 0 ? -x : x; }}
{functions}"""
_NEAR_ONE = """
static int differs_{name}(const char *name, const {name} *y, const {name} *expected, size_t bytes) {{
  size_t i, size = bytes / sizeof *y;
  double largest = 0, error = 0, d;
  int wrong = 0;
  for (i = 0; i < size; ++i) {{
    if (absolute((double)expected[i]) > largest) largest = absolute((double)expected[i]);
    if (y[i] == expected[i] || (y[i] != y[i] && expected[i] != expected[i])) continue;
    d = absolute((double)y[i] - (double)expected[i]);
    if (d > error) error = d;
    if (d != d) wrong = 1;
  }}
  if (!(error <= {tolerance} * largest)) wrong = 1;
  printf("%s: %s, error %g of %g\\n", name, wrong ? "WRONG" : "as recorded", error, largest);
  return wrong;
}}"""

_MAKEFILE = """\
# make test: builds the example and runs it. For another machine's processor: make test LDFLAGS=-static RUN=qemu-aarch64
CC = {compiler}
CFLAGS = -O2 -std=c99 -Wall -Wextra -Werror
LDFLAGS =
RUN =

{name}_test: main.c {name}.h lib{name}.a
\t$(CC) $(CFLAGS) main.c lib{name}.a $(LDFLAGS) -o $@{libraries}

test: {name}_test
\t$(RUN) ./{name}_test

clean:
\trm -f {name}_test

.PHONY: test clean
"""


@dataclass
class Recording:
    """Inputs and expected outputs, each at a multiple of 64 bytes of `NAME_test.bin` and followed by 64 bytes. exact: made by the same code."""

    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]
    exact: bool
    offsets: list[int] = field(default_factory=list)

    def data(self) -> bytes:
        """The contents of the file; sets the offsets."""
        parts, at = [], 0
        self.offsets = []
        for array in (*self.inputs, *self.outputs):
            self.offsets.append(at)
            parts.append(array.tobytes() + bytes(ALIGN + -array.nbytes % ALIGN))
            at += len(parts[-1])
        return b"".join(parts)


def main_text(interface: Interface, recording: Recording) -> str:
    """The text of `main.c`."""
    size, count = len(recording.data()), len(interface.inputs)
    inputs = [f"  const {a.ctype} *{a.name} = (const {a.ctype} *)(const void *)(test + {at});" for a, at in zip(interface.inputs, recording.offsets)]
    outputs = [f"  {a.ctype} *{a.name} = ({a.ctype} *)room({a.macro}_BYTES);" for a in interface.outputs]
    return _MAIN.format(
        name=interface.name,
        macro=interface.macro,
        size=size,
        compare=_SAME_BITS if recording.exact else _near({a.ctype for a in interface.outputs}),
        variables="\n".join([*inputs, *outputs]),
        call=f"{interface.name}_run({', '.join(['weights', *(a.name for a in (*interface.inputs, *interface.outputs)), 'arena'])})",
        writes="".join(f" || fwrite({a.name}, 1, {a.macro}_BYTES, file) != {a.macro}_BYTES" for a in interface.outputs),
        checks="\n".join(_check(a, at, recording.exact) for a, at in zip(interface.outputs, recording.offsets[count:])),
    )


def _check(a: Argument, at: int, exact: bool) -> str:
    compare = "differs" if exact else f"differs_{a.ctype}"
    return f'  wrong |= {compare}("{a.name}", {a.name}, (const {a.ctype} *)(const void *)(test + {at}), {a.macro}_BYTES);'


def _near(types: set[str]) -> str:
    parts = [_NEAR_ONE.format(name=t, tolerance="TOLERANCE" if t in ("float", "double") else "0") for t in sorted(types)]
    return _NEAR.format(functions="\n".join(parts))


def makefile_text(interface: Interface, compiler: str, undefined: Sequence[str]) -> str:
    """The text of the `Makefile`; undefined: symbols that the library does not define."""
    return _MAKEFILE.format(name=interface.name, compiler=compiler, libraries=" -lm" if undefined else "")
