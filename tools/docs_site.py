"""A hook of mkdocs (`make docs`): adds the files in bench/results that pages link to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

RESULTS = Path(__file__).parents[1] / "bench" / "results"


def on_files(files: Any, config: Any) -> Any:
    """Add the results, as `bench/results/…`."""
    for path in sorted(RESULTS.iterdir()):
        files.append(File.generated(config, f"bench/results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Adapt links to the results: in the repository they are beside docs/, on the site below it."""
    return markdown.replace("](../bench/results/", "](bench/results/")
