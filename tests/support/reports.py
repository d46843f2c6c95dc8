"""Figures of rows with faults planted in them, their entries in a manifest, and the report of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from textmint.transforms.dataset.report.page import report

from tests.support.described_rows import described, make_rows, planted_rows
from tests.support.helpers import make_reject

PLANTED: Final = described([*planted_rows(), make_reject("Planted", 0, "not_json")])
OTHER: Final = described(make_rows(tasks=30))


def entry_of(statistics: Mapping[str, Any], finished: str = "2026-11-30") -> dict[str, Any]:
    """Makes what the manifest says of a refresh with these figures."""
    kept, refused = statistics["rows"]["examples"], statistics["rows"]["rejects"]
    tasks = statistics["rows"]["tasks"]
    asked = {"requests": dict.fromkeys(("sent", "retries", "asked_again", "from_ledger"), 1)}
    asked |= {"tokens": {"prompt": 70, "output": 50}, "latency_ms": {"p50": 9, "p90": 20}, "throttled_seconds": 1.5}
    drafts = kept + refused
    rejected: dict[str, int] = {}
    for line in statistics["rejects"]:
        rejected[line["reason"]] = rejected.get(line["reason"], 0) + line["count"]
    return {
        "finished": f"{finished}T01:02:03Z",
        "options": {"seed": 42, "llm": "openai", "output": "/secret/folder", "base_url": "http://inside.example/v1"},
        "backend": {"backend": "openai", "model": "m-1", "base_url": "http://inside.example/v1"},
        "templates": {"example": "classify@d09b810b3aa3"},
        "versions": {"textmint": "0.1.0"},
        "counts": {"examples": kept, "tasks": tasks, "rejects": refused},
        "files": {
            kind: [{"path": f"{kind}/refresh=x/part.parquet", "rows": statistics["rows"][kind], "bytes": 9}]
            for kind in ("examples", "tasks", "rejects")
        },
        "steps": {
            "Flatten": {"in": tasks, "kept": tasks, "rejected": {}},
            "SampleAttributes": {"in": tasks, "kept": drafts, "rejected": {}},
            "LLMCall": {"in": drafts, "kept": drafts, "rejected": {}, **asked},
            "ParseJSON": {"in": drafts, "kept": kept, "rejected": rejected},
        },
        "spending": {"cost_usd": 1.23, "price": {"source": "--price=1,2"}, "prompt_tokens": 70, "output_tokens": 50},
    }


def make_report() -> str:
    """Makes the report of a refresh with planted faults, after one without."""
    entries = {"before": entry_of(OTHER, "2026-11-29"), "planted": entry_of(PLANTED)}
    return report(entries, {"before": OTHER, "planted": PLANTED}, "planted")
