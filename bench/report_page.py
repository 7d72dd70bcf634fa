"""Size of reports, and the time in headless Chromium to load, search, recolour and click one.

    python -m tersor.bench.report_page [--networks resnet50 mobilenetv2-int8] [--rounds 3] [--out bench/results]

`ready` counts from the start of the page's load to the end of its own scripts; `use` is a search, a change of colour and a click, one after the
other, each including the layout that it forces. An int8 network is drawn beside its float32, with the noise and the time of each layer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import tersor

from .latency import RESULTS
from .models import SEVEN, build
from .results_file import write_results

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--window-size=1400,900")
#: Uses the page as a person does, and leaves milliseconds in the document.
USE = """
<script>
window.addEventListener("load", () => {
  const ready = performance.now();
  const search = document.querySelector("input[type=search]"), colour = document.querySelector("select");
  search.value = "conv"; search.dispatchEvent(new Event("input", {bubbles: true})); document.body.getBoundingClientRect();
  colour.selectedIndex = 1; colour.dispatchEvent(new Event("change", {bubbles: true})); document.body.getBoundingClientRect();
  document.querySelector("g.node").dispatchEvent(new MouseEvent("click", {bubbles: true})); document.body.getBoundingClientRect();
  document.body.dataset.times = JSON.stringify([ready, performance.now() - ready]);
});
</script>
"""


@dataclass(frozen=True)
class Row:
    """One report. bytes: of the file. ready_ms, use_ms: medians of the rounds; ready_most, use_most: the slowest."""

    network: str
    bytes: int
    ready_ms: float
    ready_most: float
    use_ms: float
    use_most: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet50", "mobilenetv2-int8"], help=f"{', '.join(SEVEN)}, each with -int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    browser = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("Chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(name, browser, args.rounds, Path(folder)) for name in args.networks]
    write_results(args.out / "report_page.json", [asdict(r) for r in rows])
    (args.out / "report_page.md").write_text(markdown(rows))
    print(markdown(rows), end="")


def measured(name: str, browser: str, rounds: int, folder: Path) -> Row:
    page = written(name, folder / f"{name}.html")
    copy = folder / f"{name}-used.html"
    copy.write_text(page.read_text().replace("</body>", USE + "</body>"))
    times = []
    for _ in range(rounds):
        command = [browser, *FLAGS, f"--user-data-dir={folder / 'chromium'}", "--virtual-time-budget=5000", "--dump-dom", copy.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        times.append(json.loads(done.stdout.partition('data-times="')[2].partition('"')[0]))
    ready, use = zip(*times)
    return Row(name, page.stat().st_size, statistics.median(ready), max(ready), statistics.median(use), max(use))


def written(name: str, page: Path) -> Path:
    """The report of a network, with the profile of this machine."""
    network, _, int8 = name.partition("-")
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    graph = tersor.trace(build(network), (x,))
    if not int8:
        return tersor.report(tersor.transform(graph, "default"), page, profile=True)
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    small = tersor.transform(graph, "int8", calibration=[images])
    return tersor.report(small, page, before=tersor.transform(graph, "default"), profile=True, inputs=[x], ledger=small.report)


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| report | kB | ready, ms | slowest | search, recolour, click, ms | slowest |", "|---|--:|--:|--:|--:|--:|"]
    lines += [f"| {r.network} | {r.bytes / 1000:.0f} | {r.ready_ms:.0f} | {r.ready_most:.0f} | {r.use_ms:.0f} | {r.use_most:.0f} |" for r in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
