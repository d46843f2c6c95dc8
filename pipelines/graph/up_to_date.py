"""Tells whether the result of a run is there already, complete and unchanged, so that there is nothing to do.

Everything that decides a row enters the key of a run, also Textmint's code and the libraries that it computes with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from textmint.pipelines.graph.previous_run import PreviousRun
from textmint.pipelines.options.config import Config
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.dataset.card import CARD
from textmint.transforms.dataset.pages import NO_REPORT, REPORT
from textmint.transforms.dataset.schema import KINDS, DatasetKind, content_digest
from textmint.transforms.dataset.statistics_file import read_statistics
from textmint.transforms.llm.base import fingerprint_of
from textmint.transforms.storage import files

KEY: Final = "key"
"""The name under which the manifest's entry of a refresh holds the key of its run."""

IRRELEVANT_OPTIONS: Final = frozenset(
    (
        *("output", "push_to_hub", "no_report", "recompute", "rebuy", "replace", "retry_rejects", "max_concurrency"),
        *("requests_per_minute", "tokens_per_minute", "request_timeout", "max_attempts", "max_reject_rate"),
        *("base_url", "api_key_secret", "vertex_project", "vertex_location", "service_tier"),
        *("price", "verify_price"),
    )
)
"""Options that decide how a run goes, and nothing in a row."""


def run_key(config: Config, previous: PreviousRun, versions: Mapping[str, str]) -> str:
    """Computes the key of a run.

    Raises:
      OSError: a file of tasks or of excluded texts cannot be read.
    """
    return stable_hash(
        "run",
        {name: repr(value) for name, value in config.typed.items() if name not in IRRELEVANT_OPTIONS},
        [getattr(config, f"{name}_template").name for name in ("brainstorm", "example", "label_set", "verify")],
        list(config.topics),
        [fingerprint_of(backend) if backend else "" for backend in (config.backend, config.verify_backend)],
        [_digest_of_files(pattern) for pattern in (config.tasks, config.exclude)],
        [
            (label, path.rpartition("/")[2])
            for path, label, *_ in (*previous.tasks, *previous.examples)
            if label != config.refresh  # its own files come out again
        ],
        _digest_of_code(),
        dict(versions),
    )


def is_up_to_date(config: Config, previous: PreviousRun, key: str, entry: Mapping[str, Any] | None) -> bool:
    """Returns whether the result of the last run would come out again. It would not if something was unusual: a request
    without a reply, a file of the data or of the ledger that is gone or changed, replies of a killed run."""
    if entry is None or config.recompute or config.retry_rejects or previous.was_mended:
        return False
    try:
        if entry[KEY] != key:
            return False
        steps = entry["steps"]
        asked = [step["requests"] for step in steps.values() if "requests" in step]
        replies = sum(int(each["from_ledger"]) + int(each["sent"]) - int(each["retries"]) for each in asked)
        failed = sum(int(step["rejected"].get("request_failed", 0)) for step in steps.values())
        if failed or not entry["counts"]["examples"] or replies > previous.ledger_replies:
            return False
        pages = (CARD,) if config.typed[NO_REPORT] else (CARD, REPORT)
        if not all(files.exists(files.join(config.output, page)) for page in pages):
            return False
        if config.refresh not in read_statistics(config.output):
            return False
        listed = {"label_sets": [], **entry["files"]}  # only a run with planned labels has that one
        return all(_is_as_written(config.output, kind, config.refresh, listed[kind]) for kind in KINDS)
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        return False  # of another version, or mended by hand


def _is_as_written(output: str, kind: DatasetKind, refresh: str, listed: list[dict[str, Any]]) -> bool:
    """Returns whether the files of a refresh and dataset are those that the manifest lists. Local files are compared
    with the digest in their names; elsewhere that would be a download, so their sizes must do."""
    found = files.list_files(files.join(output, kind, f"refresh={refresh}"), "*.parquet")
    found = [file for file in found if not file.name.startswith(("_", "."))]  # readers skip those
    if {file.name: file.bytes for file in found} != {
        str(file["path"]).rpartition("/")[2]: int(file["bytes"]) for file in listed
    }:
        return False
    return not files.is_local(output) or all(
        file.name.endswith(f"-{content_digest(files.read_file(file.path))}.parquet") for file in found
    )


def _digest_of_files(pattern: str | None) -> str:
    if pattern is None:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for found in files.match_files(pattern):
        digest.update(f"{found.path}\0".encode("utf-8", "surrogateescape"))
        with files.open_file(found.path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _digest_of_code() -> str:
    """Digests every module of ours, so that a change of one changes the key."""
    root = Path(__file__).parents[2]
    digest = hashlib.blake2b(digest_size=16)
    for package in ("pipelines", "transforms"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()
