"""Options and fixtures of the whole suite."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


class RootIsNoTestPackage:
    """pytest takes a folder with an `__init__.py` for a package of tests and imports it under the folder's name: a second copy of tersor."""

    @pytest.hookimpl
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        return pytest.Dir.from_parent(parent, path=path) if path == GOLDEN.parents[1] else None


_kernels = tempfile.TemporaryDirectory(prefix="tersor-kernels-")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsNoTestPackage())
    if not hasattr(config, "workerinput"):
        # the processes of one run share compiled kernels, and do not find those of other runs
        os.environ["TERSOR_CACHE"] = _kernels.name


def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart() -> None:
    """Seed before each module is imported, so that its random numbers do not depend on the modules imported before."""
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed before each test, so that its random numbers do not depend on the tests run before in the same worker."""
    _seed()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code prints now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("fold_bn.mlir", text)` compares text with the file of that name in tests/golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} does not exist: run pytest with --update-golden, then read it"
        assert text == path.read_text()

    return check
