"""The wheel that users and workers install, built from a copy of the repository; and Python processes that have it, the
packages it needs, and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build_wheel(folder: Path) -> Path:
    """Builds the wheel in an empty folder.

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
    """Unpacks a wheel into a folder, without the packages that it needs."""
    options = ("--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


PROGRAM = """\
import os, runpy, sys
from importlib.machinery import PathFinder

sys.path += {path!r}
sys.argv = sys.argv[1:]


class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {watched!r} and name != "textmint":  # a namespace has no file
            found = PathFinder.find_spec(name, path, target)
            with open({log!r}, "a") as log:
                log.write(f"{{os.getpid()}} {{name}} {{found and found.origin}}\\n")


sys.meta_path.insert(0, Watch)
if sys.argv[0] == "-m":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
elif sys.argv[0] == "-c":
    exec(sys.argv.pop(1), {{"__name__": "__main__"}})
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
WATCHED = ("textmint", "benchmarks", "tests", "conftest")


def python_with(installed: Path, here: Path) -> list[str]:
    """Returns the beginning of a command, from the folder of the wheel's modules and one for our files: a Python that
    finds these modules and the packages of this virtual environment, and not the repository. It writes down where it
    finds what could be of the repository, in `imports.log` of that folder.

    The environment holds the repository too, as an editable install; that is a line in a `.pth` file, which is read by
    the module `site` only, and `-S` leaves that out. `-I` leaves the current folder and PYTHONPATH out.
    """
    program = here / "with_wheel.py"
    path = [str(installed), *dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))]
    program.write_text(PROGRAM.format(path=path, watched=WATCHED, log=str(here / "imports.log")))
    return [sys.executable, "-I", "-S", str(program)]


def python_script(installed: Path, here: Path) -> Path:
    """As `python_with`, as a program called `python` in a folder of its own."""
    path = here / "bin" / "python"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {shlex.join(python_with(installed, here))} "$@"\n')
    path.chmod(0o755)
    return path


def imports_in(here: Path) -> dict[int, dict[str, str]]:
    """Returns by process id the modules that each imported, and from where; the folder is that of `python_with`."""
    found: dict[int, dict[str, str]] = {}
    for line in (here / "imports.log").read_text().splitlines():
        process, name, place = line.split(" ", 2)
        found.setdefault(int(process), {})[name] = place
    return found


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
