"""A page in headless Chromium: its contents after scripts and events, and a picture."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--window-size=1400,900",
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


def after(page: Path, script: str) -> str:
    """The text that `script`, run in the page when its own scripts are done, puts into `result`; what it throws, as `error: …`."""
    tail = f"<script>let result = ''; try {{ {script} }} catch (e) {{ result = 'error: ' + e; }} document.body.dataset.result = result;</script>"
    copy = page.with_name(f"{page.stem}-clicked.html")
    copy.write_text(page.read_text().replace("</body>", tail + "</body>"))
    dom = _run(page.parent, "--dump-dom", copy.as_uri())
    return dom.partition('data-result="')[2].partition('"')[0].replace("&quot;", '"')


def screenshot(page: Path) -> Path:
    """A picture of the page as it opens."""
    picture = page.with_suffix(".png")
    _run(page.parent, f"--screenshot={picture}", page.as_uri())
    return picture


def _run(folder: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'chromium'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
