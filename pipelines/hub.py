"""Pushes a dataset folder to a dataset repository of the Hugging Face Hub.

It pushes the card, the report, the manifest (without paths, URLs and projects), the statistics, and the Parquet files
that the manifest lists. It is one commit, which also deletes data files of earlier pushes that the manifest no longer
lists: the Hub shows the state before or after, never both."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from textmint.pipelines.options.errors import OptionError
from textmint.transforms.core.temporary import temporary_folder
from textmint.transforms.dataset.card import CARD
from textmint.transforms.dataset.manifest import MANIFEST, read_manifest
from textmint.transforms.dataset.pages import REPORT, is_page_of_ours
from textmint.transforms.dataset.public_manifest import public_manifest
from textmint.transforms.dataset.statistics_file import STATISTICS, format_statistics, read_statistics
from textmint.transforms.storage.files import is_local, join, open_file

TOKEN_VARIABLE: Final = "HF_TOKEN"
ENDPOINT_VARIABLE: Final = "HF_ENDPOINT"  # another Hub than huggingface.co, for instance of a company
_TOKENS_PAGE: Final = "https://huggingface.co/settings/tokens"

# As huggingface_hub/utils/_validators.py, which may not be installed when the name is checked.
_NAME: Final = re.compile(r"(?!.*(?:--|\.\.|\.git$))\b[\w.-]+\b/\b[\w.-]{1,96}\b", re.ASCII)
_DATA_FILE: Final = re.compile(r"[a-z][a-z_]*/refresh=[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*\.parquet")


class PushFailed(RuntimeError):
    """The folder could not be pushed, and is as it was. The message has the reason and the remedy, without any
    token."""


def check_push(repo: str, environment: Mapping[str, str] = os.environ) -> None:
    """Checks whether a push can be tried. Sends nothing.

    Raises:
      OptionError: not OWNER/NAME, huggingface_hub is not installed, no token is set; all that is wrong.
    """
    problems = []
    if not _NAME.fullmatch(repo):
        problems.append(
            f"--push_to_hub is {repo[:120]!r}; it must be OWNER/NAME, each of letters, digits and underscores, with "
            "single dots and dashes between them; a name has 96 characters at most"
        )
    try:
        import huggingface_hub  # noqa: F401  # an extra, and slow to import
    except ImportError:
        problems.append("--push_to_hub needs huggingface_hub: pip install 'huggingface_hub>=2,<3'")
    if not environment.get(TOKEN_VARIABLE, "").strip():
        problems.append(
            f"--push_to_hub needs a token: export {TOKEN_VARIABLE} with one that may write, from {_TOKENS_PAGE}"
        )
    if problems:
        raise OptionError(*problems)


def push(output: str, repo: str, environment: Mapping[str, str] = os.environ) -> str:
    """Pushes a dataset folder, and returns its address on the Hub. Doing it again changes nothing.

    A missing repository is created, and is private until its owner makes it public.

    Raises:
      OptionError: see `check_push`.
      PushFailed: there is nothing to push, or the Hub did not take it.
    """
    check_push(repo, environment)
    import huggingface_hub as hub

    endpoint = environment.get(ENDPOINT_VARIABLE) or None
    api = hub.HfApi(endpoint=endpoint, token=environment[TOKEN_VARIABLE].strip())
    with temporary_folder("push") as scratch:
        manifest = _manifest_of(output)
        files = [CARD, *_data_files(manifest)]
        sources = [_as_local(output, path, Path(scratch, str(place))) for place, path in enumerate(files)]
        figures = read_statistics(output)
        shown = public_manifest(manifest)
        report = _report(output, shown["refreshes"], figures)
        try:
            api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
            there = api.list_repo_files(repo, repo_type="dataset")
            api.create_commit(
                repo,
                [
                    *(hub.CommitOperationAdd(path, str(source)) for path, source in zip(files, sources, strict=True)),
                    hub.CommitOperationAdd(MANIFEST, (json.dumps(shown, indent=2, ensure_ascii=False) + "\n").encode()),
                    *([hub.CommitOperationAdd(STATISTICS, format_statistics(figures))] if figures else ()),
                    *([hub.CommitOperationAdd(REPORT, report.encode())] if report else ()),
                    *(hub.CommitOperationDelete(path, is_folder=False) for path in _stale(there, files)),
                ],
                repo_type="dataset",
                commit_message=_summary(manifest),
            )
        except Exception as error:  # HTTP errors, those of the HTTP client, which the library exchanges at times, ...
            raise PushFailed(_explained(error, repo, endpoint or hub.constants.ENDPOINT)) from None
    return f"{(endpoint or hub.constants.ENDPOINT).rstrip('/')}/datasets/{repo}"


def _manifest_of(output: str) -> dict[str, Any]:
    try:
        manifest = read_manifest(output)
        if not manifest["refreshes"]:
            raise PushFailed(f"{output} holds no published data: run `generate` first")
        _data_files(manifest)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PushFailed(f"{output}/{MANIFEST} is not Textmint's: run `generate` again") from None
    return manifest


def _report(output: str, entries: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Makes the report anew without what the manifest does not show to everybody; "" where the folder has none of
    ours."""
    from textmint.transforms.dataset.report.page import last_refresh, report  # only now: few runs push

    refresh = last_refresh(entries)
    return report(entries, figures, refresh) if refresh in figures and is_page_of_ours(join(output, REPORT)) else ""


def _data_files(manifest: Mapping[str, Any]) -> list[str]:
    """Returns the paths of the files that a manifest lists. A path that no run writes, and that may lead out of the
    folder, is refused."""
    paths = sorted(
        file["path"] for entry in manifest["refreshes"].values() for files in entry["files"].values() for file in files
    )
    for path in paths:
        if not _DATA_FILE.fullmatch(path):
            raise PushFailed(f"{MANIFEST} lists {path[:120]!r}, which no run writes: nothing was pushed")
    return paths


def _as_local(output: str, path: str, copy: Path) -> Path:
    """Returns a local path of a file of the folder: its own, or that of a copy."""
    source = join(output, path)
    if is_local(output):
        if not Path(source).is_file():
            raise PushFailed(f"{source} is not there: run `generate` of that label again")
        return Path(source)
    try:
        with open_file(source) as file, copy.open("wb") as to:
            shutil.copyfileobj(file, to)
    except Exception as error:  # each file system raises its own
        raise PushFailed(f"{source} cannot be read ({_one_line(error)}): run `generate` of that label again") from None
    return copy


def _stale(there: Iterable[str], files: Iterable[str]) -> list[str]:
    """Returns the data files of a repository that it is no longer to hold. Files of other kinds are its owner's."""
    return sorted(path for path in set(there) - set(files) if _DATA_FILE.fullmatch(path))


def _summary(manifest: Mapping[str, Any]) -> str:
    entries = manifest["refreshes"].values()
    examples = sum(file["rows"] for entry in entries for file in entry["files"].get("examples", ()))
    return f"{examples:,} examples in {len(entries):,} refresh{'es' if len(entries) > 1 else ''}"


def _explained(error: Exception, repo: str, endpoint: str) -> str:
    """Explains an error of the Hub or its client in one line, with the remedy."""
    owner = repo.split("/")[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    known = {
        401: f"the Hub does not take the token in {TOKEN_VARIABLE}: make one that may write, at {_TOKENS_PAGE}",
        403: f"the token in {TOKEN_VARIABLE} may not write to {repo}: give it that right, or push to another owner",
        404: f"the Hub has no {owner}, or hides it from this token: check the name in --push_to_hub={repo}",
    }
    if status in known:
        return known[status]
    said = _one_line(getattr(error, "server_message", None) or error)
    if status is not None:
        again = "try again later" if status == 429 or status >= 500 else "nothing was pushed"
        return f"the Hub answered {status} ({said}): {again}"
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set: unset it, and push again"
    if isinstance(error, ValueError):
        return f"the Hub's client does not take it ({said}): nothing was pushed"
    return f"{endpoint} was not reached ({said}): check the network, and {ENDPOINT_VARIABLE} where it is set"


def _one_line(error: object) -> str:
    """Shortens a message to one line without the queries of addresses, which can hold a signature."""
    return " ".join(re.sub(r"\?\S+", "", str(error)).split())[:200] or type(error).__name__
