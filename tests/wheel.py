"""The wheel that users and workers install, built from a copy of the repository; and Python processes that have it, the
packages it needs, and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build_wheel(folder: Path) -> Path:
    """An empty folder -> the wheel, in it.

    It is built from a copy, for setuptools leaves `build` and `*.egg-info` where it works. Everything else that is in
    the repository is in the copy too, so that what is found in the wheel was chosen and not merely present.
    """
    source = folder / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".?*", "build", "dist", "*.egg-info", "__pycache__", "output", "out"),
    )
    (source / "benchmarks").mkdir(exist_ok=True)
    (source / "benchmarks" / "__init__.py").touch()
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(folder)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("textmint-*-py3-none-any.whl")
    return path


def install_wheel(wheel: Path, folder: Path) -> Path:
    """A wheel -> the folder, with its modules and without what it needs."""
    options = ("--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def python_with(installed: Path, here: Path) -> list[str]:
    """A folder with the wheel's modules, and one for a file of our own -> the beginning of a command: a Python that
    finds these modules and the packages of this virtual environment, and not the repository.

    The environment holds the repository too, as an editable install; that is a line in a `.pth` file, which is read by
    the module `site` only, and `-S` leaves that out. `-I` leaves the current folder and PYTHONPATH out.
    """
    program = here / "with_wheel.py"
    program.write_text(
        "import runpy, sys\n"
        f"sys.path += {[str(installed), sysconfig.get_path('purelib'), sysconfig.get_path('platlib')]!r}\n"
        "sys.argv = sys.argv[1:]\n"
        "if sys.argv[0] == '-m':\n"
        "    del sys.argv[0]\n"
        "    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
        "else:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    return [sys.executable, "-I", "-S", str(program)]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While the `with` block runs, no other process is in the same block of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
