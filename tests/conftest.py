"""What all tests share: a quiet Beam, and a repository that other processes can import too."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(ROOT))]
)

# huggingface_hub reads these when it is imported. It would tell its home which tools are about, and upload by a
# protocol of its own that the Hub of the tests does not play.
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it logs a traceback for every failure a test provokes

# The machine may be busy with other tests; a slow example is no fault.
settings.register_profile("textmint", deadline=None)
settings.load_profile("textmint")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Says how many processes `-n auto` starts: one more than there are cores, for a third of the time tests wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that `-m "not process"` leaves out."""
    from tests.support.process_tests import is_process_test

    for item in items:
        if isinstance(item, pytest.Function) and is_process_test(item):
            item.add_marker("process")


@pytest.fixture
def store() -> Iterator[dict[str, bytes]]:
    """An empty object store in memory, mem://..., as the content by path."""
    from tests.support.mem_store import MemFileSystem  # imports Beam, which not every test needs

    for each in (MemFileSystem.objects, MemFileSystem.broken, MemFileSystem.log):
        each.clear()
    yield MemFileSystem.objects
    for each in (MemFileSystem.objects, MemFileSystem.broken):
        each.clear()


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository; the processes of one run of the tests share it."""
    from tests.support.wheel import alone, build_wheel

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    with alone(folder):
        found = list(folder.glob("*.whl"))
        return found[0] if found else build_wheel(folder)


@pytest.fixture(scope="session")
def installed_wheel(wheel_file: Path) -> Path:
    """A folder with what that wheel holds."""
    from tests.support.wheel import alone, install_wheel

    with alone(wheel_file.parent):
        folder = wheel_file.parent / "installed"
        return folder if folder.exists() else install_wheel(wheel_file, folder)
