"""What a run will pay for that somebody may not expect: told in a line or two before anything is asked.

It is found by what the manifest and the rejects of the label tell of its last run, so it costs no pass over the
prompts. How many replies the ledger has for them is known only when each prompt is there; the manifest tells it
afterwards.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from textmint.pipelines.options.config import Config
from textmint.transforms.dataset.accounting import REFUSED
from textmint.transforms.dataset.published_files import UNREADABLE, open_published
from textmint.transforms.storage import files

_ALL: Final = (
    *("seed", "llm", "model", "temperature", "top_p", "max_output_tokens", "thinking_budget", "safety_threshold"),
    *("structured_output", "vertex_project", "vertex_location", "vertex_endpoint", "offline_fault_rate", "label_plan"),
)
"""Options a change of which makes every prompt of an example, or the request for it, another one; where these decide
nothing, as the place of a model does, the fingerprint says so."""
_UNREAD: Final = frozenset(("TaskGenerate", "PlanLabels", "ParseJSON"))


def cost_notices(config: Config, entry: Mapping[str, Any] | None) -> list[str]:
    """Says what is asked anew, and what the same prompts brought last time.

    Args:
      config: of the run.
      entry: what the manifest says of its label; None: it has none.

    Returns:
      a line for each thing that is worth one.
    """
    if entry is None:
        return []
    try:
        return list(_told(config, entry))
    except (KeyError, TypeError, ValueError, AttributeError):
        return []  # of another version, or mended by hand


def _told(config: Config, entry: Mapping[str, Any]) -> Iterator[str]:
    label, steps = config.refresh, entry["steps"]
    changed = changes(config, entry)
    if changed:
        about = "" if config.tasks else "about "
        used = _replies(steps["LLMCall"])
        yield (
            f"refresh={label} was made with {', '.join(changed)}: all prompts of examples are new, so {about}"
            f"{config.expected_examples:,} are asked for; the {used:,} replies of the last run do not answer them"
        )
        return
    models = [options.get("verify_model") or options.get("model") for options in (entry["options"], config.typed)]
    if entry["options"].get("verify") and config.verify_backend and models[0] != models[1]:
        yield (
            f"refresh={label} was verified by {models[0]} (now {models[1]}): every example is verified anew, about "
            f"{entry['counts']['examples']:,} requests"
        )
    if entry["attributes"] != json.loads(json.dumps(config.attributes.describe())):
        yield (
            f"refresh={label} was made with other attributes (language, difficulty, clarity or num_words): prompts in "
            "which one of them is another now are asked anew"
        )
    more_attempts = config.parse_attempts > entry["options"]["parse_attempts"]
    if not config.retry_rejects and not more_attempts:
        return
    again = refused_before(config)
    if not config.retry_rejects:
        again = collections.Counter({key: count for key, count in again.items() if key[0] in _UNREAD})
    if again:
        drafts, kept = steps["SampleAttributes"]["kept"], entry["counts"]["examples"]
        reasons: collections.Counter[str] = collections.Counter()
        for (_, reason), count in again.items():
            reasons[reason] += count
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
        which = "--retry_rejects" if config.retry_rejects else f"--parse_attempts={config.parse_attempts}"
        yield (
            f"{which} asks again for {again.total():,} prompts, each {config.parse_attempts:,} times at most; "
            f"last time {kept:,} of {drafts:,} examples of refresh={label} were kept, and these were refused: {listed}"
        )


def changes(config: Config, entry: Mapping[str, Any]) -> list[str]:
    """Says what makes all prompts of examples others than those of the label's last run.

    Args:
      config: of the run.
      entry: what the manifest says of the label.

    Returns:
      what was and what is, of each option or template.

    Raises:
      KeyError, TypeError, AttributeError: the entry is of another version, or was mended by hand.
    """
    typed, before = config.typed, entry["options"]
    asked, told = json.loads(json.dumps(dict(config.backend.fingerprint()))), entry["backend"]
    is_same_model = all(told.get(name) in (value, REFUSED) for name, value in asked.items())
    found = [
        f"--{name}={before.get(name)} (now {typed[name]})"
        for name in _ALL
        if before.get(name) != typed[name] and (name in ("seed", "label_plan") or not is_same_model)
    ]
    if not is_same_model and not [told for told in found if not told.startswith(("--seed", "--label_plan"))]:
        found.append("other parameters of the model")
    if (
        entry["templates"]["example"] != config.example_template.name
        and before.get("label_plan") == typed["label_plan"]
    ):
        found.append(f"the template {entry['templates']['example']} (now {config.example_template.name})")
    return found


def _replies(step: Mapping[str, Any]) -> int:
    told = step.get("requests", {"from_ledger": 0, "sent": 0, "retries": 0})
    return int(told["from_ledger"]) + int(told["sent"]) - int(told["retries"])


def refused_before(config: Config) -> collections.Counter[tuple[str, str]]:
    """Counts what the label's last run refused though asking again may help.

    Args:
      config: of the run.

    Returns:
      step and reason -> how many; without those in files that cannot be read.
    """
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for file in files.list_files(files.join(config.output, "rejects", f"refresh={config.refresh}"), "*.parquet"):
        try:
            table = open_published(file.path).read(columns=["stage", "reason", "can_retry"])
            counted = table.filter(table["can_retry"]).group_by(["stage", "reason"]).aggregate([([], "count_all")])
        except UNREADABLE:
            continue
        for row in counted.to_pylist():
            if row["reason"] != "request_failed":  # which brought no reply, and is asked for in any case
                found[row["stage"], row["reason"]] += row["count_all"]
    return found
