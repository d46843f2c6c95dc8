"""Says, before anything is asked, what a run will pay for unexpectedly, by the manifest and the rejects of the
refresh's last run. How many replies the ledger has is known only when each prompt is made; the manifest has it
afterwards."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from textmint.pipelines.options.config import Config
from textmint.transforms.dataset.accounting import REFUSED
from textmint.transforms.dataset.published_files import UNREADABLE, open_published
from textmint.transforms.storage import files

_DECIDE_PROMPTS: Final = (
    *("seed", "llm", "model", "temperature", "top_p", "max_output_tokens", "thinking_budget", "safety_threshold"),
    *("structured_output", "vertex_project", "vertex_location", "vertex_endpoint", "offline_fault_rate", "label_plan"),
)
"""Options a change of which makes every prompt of an example, or the request for it, a new one. If one of them decides
nothing, as the place of a model does, the fingerprint of the back end says so."""
_UNREAD: Final = frozenset(("TaskGenerate", "PlanLabels", "ParseJSON"))


def cost_notices(config: Config, entry: Mapping[str, Any] | None) -> list[str]:
    """Lists what is asked anew, and what the same prompts brought last time, a line each."""
    if entry is None:
        return []
    try:
        return list(_notices(config, entry))
    except (KeyError, TypeError, ValueError, AttributeError):
        return []  # of another version, or mended by hand


def _notices(config: Config, entry: Mapping[str, Any]) -> Iterator[str]:
    refresh, steps, before = config.refresh, entry["steps"], entry["options"]
    if changes := prompt_changes(config, entry):
        about = "" if config.tasks else "about "
        yield (
            f"refresh={refresh} was made with {', '.join(changes)}: all prompts of examples are new, so {about}"
            f"{config.expected_examples:,} are asked for; the {_replies(steps['LLMCall']):,} replies of the last run "
            "do not answer them"
        )
        return
    verifier, now = (options.get("verify_model") or options.get("model") for options in (before, config.typed))
    if before.get("verify") and config.verify_backend and verifier != now:
        yield (
            f"refresh={refresh} was verified by {verifier} (now {now}): every example is verified anew, about "
            f"{entry['counts']['examples']:,} requests"
        )
    if entry["attributes"] != json.loads(json.dumps(config.attributes.describe())):
        yield (
            f"refresh={refresh} was made with other attributes (language, difficulty, clarity or num_words): prompts "
            "in which one of them is another now are asked anew"
        )
    if config.retry_rejects or config.parse_attempts > before["parse_attempts"]:
        yield from _retries(config, entry)


def _retries(config: Config, entry: Mapping[str, Any]) -> Iterator[str]:
    rejects = retryable_rejects(config)
    if not config.retry_rejects:
        rejects = collections.Counter({key: count for key, count in rejects.items() if key[0] in _UNREAD})
    if not rejects:
        return
    drafts, kept = entry["steps"]["SampleAttributes"]["kept"], entry["counts"]["examples"]
    reasons: collections.Counter[str] = collections.Counter()
    for (_, reason), count in rejects.items():
        reasons[reason] += count
    listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
    which = "--retry_rejects" if config.retry_rejects else f"--parse_attempts={config.parse_attempts}"
    yield (
        f"{which} asks again for {rejects.total():,} prompts, each {config.parse_attempts:,} times at most; "
        f"last time {kept:,} of {drafts:,} examples of refresh={config.refresh} were kept, and these were refused: "
        f"{listed}"
    )


def prompt_changes(config: Config, entry: Mapping[str, Any]) -> list[str]:
    """Lists each option or template, as it was and as it is, that makes all prompts of examples new since the refresh's
    last run.

    Raises:
      KeyError, TypeError, AttributeError: the entry is of another version, or was edited by hand.
    """
    typed, before = config.typed, entry["options"]
    fingerprint, recorded = json.loads(json.dumps(dict(config.backend.fingerprint()))), entry["backend"]
    is_same_model = all(recorded.get(name) in (value, REFUSED) for name, value in fingerprint.items())
    changed = [
        name
        for name in _DECIDE_PROMPTS
        if before.get(name) != typed[name] and (name in ("seed", "label_plan") or not is_same_model)
    ]
    found = [f"--{name}={before.get(name)} (now {typed[name]})" for name in changed]
    if not is_same_model and not set(changed) - {"seed", "label_plan"}:
        found.append("other parameters of the model")
    template, recorded_template = config.example_template.name, entry["templates"]["example"]
    if recorded_template != template and before.get("label_plan") == typed["label_plan"]:
        found.append(f"the template {recorded_template} (now {template})")
    return found


def _replies(step: Mapping[str, Any]) -> int:
    requests = step.get("requests", {"from_ledger": 0, "sent": 0, "retries": 0})
    return int(requests["from_ledger"]) + int(requests["sent"]) - int(requests["retries"])


def retryable_rejects(config: Config) -> collections.Counter[tuple[str, str]]:
    """Counts, by step and reason, the rejects of the refresh's last run that a new request may avoid; files that cannot
    be read are left out."""
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for file in files.list_files(files.join(config.output, "rejects", f"refresh={config.refresh}"), "*.parquet"):
        try:
            table = open_published(file.path).read(columns=["stage", "reason", "can_retry"])
            counted = table.filter(table["can_retry"]).group_by(["stage", "reason"]).aggregate([([], "count_all")])
        except UNREADABLE:
            continue
        for row in counted.to_pylist():
            if row["reason"] != "request_failed":  # it brought no reply, and is asked for in any case
                found[row["stage"], row["reason"]] += row["count_all"]
    return found
