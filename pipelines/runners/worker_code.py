"""Brings our code to the workers of a Dataflow job."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, WorkerOptions
from textmint.pipelines.runners.dataflow_options import NOTHING_DONE, LaunchFailed

IMAGE: Final = "TEXTMINT_IMAGE"
"""The environment variable by which a container image knows its own name; its workers then need nothing installed."""

_PACKAGE: Final = "textmint"
_ROOT: Final = Path(__file__).parents[2]
_ADDED_BY_PIP: Final = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


@contextlib.contextmanager
def code_for_workers(options: PipelineOptions) -> Iterator[None]:
    """Sets in the options how workers get our code, while its `with` block runs, unless the user did: from the image
    that this runs in, from the checkout, or as a wheel packed from what is installed.

    Raises:
      LaunchFailed: our code is neither a checkout nor an installed package.
    """
    setup = options.view_as(SetupOptions)
    workers = options.view_as(WorkerOptions)
    if setup.setup_file or setup.extra_packages or workers.sdk_container_image:
        yield
    elif image := os.environ.get(IMAGE):
        workers.sdk_container_image = image
        yield
    elif (_ROOT / "setup.py").is_file():
        setup.setup_file = str(_ROOT / "setup.py")
        yield
    else:
        with tempfile.TemporaryDirectory(prefix="textmint-wheel-") as folder:
            setup.extra_packages = [str(_pack_wheel(Path(folder)))]
            yield


def _pack_wheel(folder: Path) -> Path:
    """Packs a wheel of Textmint as it is installed here (packaging.python.org, binary distribution format)."""
    try:
        installed = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        raise _not_installed() from None
    packed = [file for file in installed.files or [] if _belongs_in_wheel(file)]
    if not any(file.parts[:2] == (_PACKAGE, "pipelines") for file in packed):
        raise _not_installed()
    record = io.StringIO()
    wheel = folder / f"{_PACKAGE}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in packed:
            content = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.write(f"{file},sha256={digest},{len(content)}\n")
            archive.writestr(str(file), content)
        name = next(file.parts[0] for file in packed if file.name == "METADATA") + "/RECORD"
        archive.writestr(name, f"{record.getvalue()}{name},,\n")
    return wheel


def _not_installed() -> LaunchFailed:
    return LaunchFailed(
        "workers need Textmint, and it is neither a checkout nor an installed package here: give --setup_file, "
        f"--extra_package or --sdk_container_image; {NOTHING_DONE}"
    )


def _belongs_in_wheel(file: metadata.PackagePath) -> bool:
    """Leaves out scripts, which lie outside of the packages' folder, and what pip adds."""
    return file.name not in _ADDED_BY_PIP and ".." not in file.parts and "__pycache__" not in file.parts
