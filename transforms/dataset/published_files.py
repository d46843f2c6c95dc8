"""Files of the dataset that a run has published: read only after a check of what they hold."""

from __future__ import annotations

import io
import re
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from textmint.transforms.dataset.schema import content_digest
from textmint.transforms.storage import files

_NAME: Final = re.compile(r"part-\d{5}-of-\d{5}-([0-9a-f]{16})\.parquet")


def check_digest(path: str, content: bytes) -> None:
    """Checks what a published file holds against the digest in its name, if it has the name that a run gave it.

    Args:
      path: of the file.
      content: of the file.

    Raises:
      ValueError: it is not what was written.
    """
    told = _NAME.fullmatch(path.rpartition("/")[2])
    if told is not None and told[1] != content_digest(content):
        raise ValueError("damaged: its content is not what was written under its name")


def open_published(path: str) -> pq.ParquetFile:
    """Opens a published file, after a check of its digest: a wrong bit can have any effect on who reads Parquet.

    Args:
      path: of the file.

    Raises:
      any of UNREADABLE: it cannot be read, or is not what was written; so may who reads on, in a file of another name.
    """
    content = files.read_file(path)
    check_digest(path, content)
    return pq.ParquetFile(io.BytesIO(content))


UNREADABLE: Final = (pa.ArrowException, OSError, KeyError, ValueError)
"""What reading a file raises that is gone, damaged or none of ours."""
