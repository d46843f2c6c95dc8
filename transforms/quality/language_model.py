"""The model of the language identifier, unpacked once and then mapped into memory.

In its wheel the model is 5 MB of LZMA, which every process would unpack to 68 MB of its own, in 0.4 s of CPU: a fifth
of a run of three rows. `python -m textmint.transforms.quality.language_model` unpacks it beside the program, which the
set-up does; from there it is loaded in 0.01 s, and processes share its memory. Where that was not done, or the packed
model is another one meanwhile, the packed one is read.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zlib
from array import array
from pathlib import Path
from typing import Any, Final

import numpy as np
from py3langid import langid, modelio

_ARRAYS: Final = ("features", "classes", "labels", "moves", "rows", "outputs")  # in the order of `modelio.load_model`


def load() -> Any:
    """Loads the identifier, with confidences from 0 to 1."""
    try:
        features, classes, labels, moves, rows, outputs = (
            np.load(unpacked_folder() / f"{name}.npy", mmap_mode="r") for name in _ARRAYS
        )
    except (OSError, ValueError):  # there is none, or no whole one
        return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    return langid.LanguageIdentifier(
        features,
        classes,
        labels.tolist(),
        memoryview(moves),  # gives numbers of Python, as fast as an array does
        outputs.tolist(),
        norm_probs=True,
        tk_row=array("H" if rows.itemsize == 2 else "I", rows.tobytes()),
    )


def unpack() -> Path:
    """Unpacks the model, if that was not done before; returns the folder, which appears when it is whole."""
    folder = unpacked_folder()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        begun = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for name, values in zip(_ARRAYS, modelio.load_model(_packed()), strict=True):
                np.save(begun / f"{name}.npy", np.asarray(values, np.int32 if name == "outputs" else None))
            begun.chmod(0o755)
            os.rename(begun, folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(begun, ignore_errors=True)
    return folder


def unpacked_folder() -> Path:
    """Returns where the unpacked model is looked for; its name tells which packed one it was made of."""
    checksum = zlib.crc32(_packed().read_bytes())  # 0.7 ms
    return Path(sys.prefix, "share", "textmint", f"language_model-{checksum:08x}")


def _packed() -> Path:
    return Path(langid.MODEL_DIR, langid.MODEL_FILE)


if __name__ == "__main__":
    unpack()
