"""What everybody may see of a manifest: no local paths, URLs and cloud projects, and not what was paid in dollars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from textmint.transforms.dataset.accounting import REFUSED
from textmint.transforms.dataset.manifest import DIGEST

SHOWN_OPTIONS: Final = (
    *("llm", "model", "temperature", "top_p", "max_output_tokens", "thinking_budget", "safety_threshold"),
    *("service_tier", "structured_output", "parse_attempts", "offline_fault_rate", "task_requests", "max_tasks"),
    *("target_examples", "examples_per_task", "language", "difficulty", "clarity", "num_words", "label_plan", "checks"),
    *("near_duplicate_threshold", "task_near_duplicate_threshold", "verify", "verify_model", "keep_raw", "seed"),
)
"""The options that everybody may see. All others are hidden: paths, URLs, projects, and options yet to come."""
SHOWN_FILES: Final = ("tasks", "topics", "brainstorm_template", "example_template", "exclude")
"""Options that name files: the name is shown, not the folder."""
_HIDDEN_OF_BACKEND: Final = ("base_url", "endpoint")


def shown_options(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options in an entry of the manifest that may be shown, where they were given or have a default."""
    refused = {name: value for name, value in entry.get("backend", {}).items() if value == REFUSED}
    options = {**entry.get("options", {}), **refused}
    shown = {name: options[name] for name in SHOWN_OPTIONS if options.get(name) is not None}
    for name in SHOWN_FILES:
        if options.get(name) is not None:
            paths = options[name] if isinstance(options[name], list) else [options[name]]
            bare = [re.split(r"[?#]", str(path))[0].rstrip("/\\") for path in paths]
            shown[name] = ", ".join(re.split(r"[/\\]", path)[-1] for path in bare)
    return shown


def public_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the manifest without local paths, URLs, cloud projects and costs: a price may be one that was agreed
    upon. Tokens stay. The digests no longer fit, so they go too."""
    refreshes = {}
    for refresh, entry in manifest["refreshes"].items():
        backend = {name: value for name, value in entry.get("backend", {}).items() if name not in _HIDDEN_OF_BACKEND}
        steps = {
            step: {name: value for name, value in line.items() if name != "cost_usd"}
            for step, line in entry.get("steps", {}).items()
        }
        refreshes[refresh] = {**entry, "options": shown_options(entry), "backend": backend, "steps": steps}
        for name in (DIGEST, "spending", "caps"):
            refreshes[refresh].pop(name, None)
    return {**manifest, "refreshes": refreshes}
