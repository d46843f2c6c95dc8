"""Dataset card: the manifest -> OUTPUT/README.md, what a person reads first and `datasets.load_dataset` reads alone.

The front matter is YAML made of closed sets only: column names, language codes, numbers. Everything else (labels,
texts, names of models, what was typed as an option) stands below it, as data of whoever wrote it: one line, cut,
escaped, so that it can neither end a table nor become a link, HTML or front matter. The same manifest and samples give
the same text; neither moments nor paths of the machine are in it.

What `datasets` 5.2 makes of the front matter, and why it says what it says:
  - each config names its files (`examples/refresh=*/*.parquet`), so that whatever else lies in the folder is not read;
  - a config without rows can be streamed only ("corresponds to no data" otherwise), so only kinds with rows have one,
    and rejects, which every run writes: where there are none, the card loads them with `streaming=True`;
  - without `features` the first file's columns count, and a later file with one more (`raw_reply`) ends the load. With
    them a column that a file lacks is null;
  - the folder `refresh=LABEL` becomes no column. One label is loaded with `data_files="triplets/refresh=LABEL/*"`.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import yaml
from textmint.transforms.core.elements import REASONS
from textmint.transforms.core.languages import UnknownLanguage, find_language
from textmint.transforms.core.texts import clean_text
from textmint.transforms.dataset.accounting import REFUSED
from textmint.transforms.dataset.manifest import DIGEST
from textmint.transforms.dataset.schema import KINDS, schema_of
from textmint.transforms.dataset.triplets import TRIPLETS

CARD: Final = "README.md"
MARK: Final = "<!-- Written by textmint at the end of a run. Without this line, later runs leave the file alone. -->"
TEXTS: Final = "sentence-transformers"
"""The config of the triplets' three texts alone: the losses of sentence-transformers train on every column they get."""

LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
"""What an identifier of a license looks like, in --license and in the card."""
COUNTED: Final = ("language", "difficulty", "clarity", "num_words", "model")
"""The columns of examples whose values are counted."""

FREQUENT_LABELS: Final = 20  # listed; what is rarer than these says little about a dataset
_REFRESHES: Final = 6  # with a column of their own; more make a table that nobody can read
_LINES: Final = 120  # of a table; XLM-R has 100 languages
_CELL: Final = 120  # characters of a value in a table
_SAMPLE: Final = 600  # characters of a text among the samples


# --- statistics


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What is counted over the examples of one refresh.

    Args:
      values: column of COUNTED -> value -> how many examples.
      labels: how many different labels there are, each counted within its task.
      frequent_labels: (label, how many examples), most first, FREQUENT_LABELS at most, whatever their task.
    """

    values: Mapping[str, Mapping[str, int]]
    labels: int = 0
    frequent_labels: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of_counts(
        cls, counts: Mapping[str, int], *, labels: int = 0, frequent_labels: Iterable[tuple[str, int]] = ()
    ) -> Statistics:
        """`column.value` -> how many (see `counted`), in any order -> the statistics. Other names are passed over."""
        values: dict[str, dict[str, int]] = {column: {} for column in COUNTED}
        for name in sorted(counts):
            column, dot, value = name.partition(".")
            if dot and column in values:
                values[column][value] = counts[name]
        ordered = sorted(frequent_labels, key=lambda pair: (-pair[1], pair[0]))
        return cls(values=values, labels=labels, frequent_labels=tuple(ordered[:FREQUENT_LABELS]))

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Statistics:
        """Rows of examples, one at a time and in any order -> the statistics. Memory grows with the labels."""
        counts: collections.Counter[str] = collections.Counter()
        texts: collections.Counter[str] = collections.Counter()
        labels: set[tuple[str, str]] = set()
        for row in rows:
            counts.update(counted(row))
            texts[row["label"]] += 1
            labels.add((row["task_id"], row.get("label_id", row["label"])))
        return cls.of_counts(counts, labels=len(labels), frequent_labels=texts.items())

    @classmethod
    def of_json(cls, value: Any) -> Statistics:
        """What `to_json` gave, read back -> the statistics; empty ones where there are none."""
        if not isinstance(value, Mapping):
            return cls(values={})
        return cls(
            values={column: dict(value.get("values", {}).get(column, {})) for column in COUNTED},
            labels=int(value.get("labels", 0)),
            frequent_labels=tuple((str(label), int(count)) for label, count in value.get("frequent_labels", ())),
        )

    def to_json(self) -> dict[str, Any]:
        """-> the same as JSON can hold it, for the manifest."""
        return {
            "values": {column: dict(sorted(values.items())) for column, values in self.values.items()},
            "labels": self.labels,
            "frequent_labels": [list(pair) for pair in self.frequent_labels],
        }


def counted(row: Mapping[str, Any]) -> Iterator[str]:
    """A row of examples -> the names under which it is counted: `language.German`, ..."""
    for column in COUNTED:
        yield f"{column}.{row[column]}"


# --- what may be shown

SHOWN_OPTIONS: Final = (
    "llm",
    "model",
    "temperature",
    "top_p",
    "max_output_tokens",
    "thinking_budget",
    "safety_threshold",
    "service_tier",
    "structured_output",
    "parse_attempts",
    "offline_fault_rate",
    "task_requests",
    "max_tasks",
    "examples_per_task",
    "language",
    "difficulty",
    "clarity",
    "num_words",
    "label_plan",
    "checks",
    "near_duplicate_threshold",
    "task_near_duplicate_threshold",
    "verify",
    "verify_model",
    "keep_raw",
    "seed",
)
"""The options that the world may see. What is not listed here is not shown: paths, URLs, projects, and options that
are yet to come."""

SHOWN_FILES: Final = ("tasks", "topics", "brainstorm_template", "example_template", "exclude")
"""Options that name files: the name is shown, not the folder."""

_HIDDEN_OF_BACKEND: Final = ("base_url", "endpoint")


def shown_options(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A refresh's entry in the manifest -> the options that may be shown, those that were given or defaulted."""
    backend = entry.get("backend", {})
    # What was typed, but for what the endpoint would not hear of.
    options = {**entry.get("options", {}), **{name: value for name, value in backend.items() if value == REFUSED}}
    shown = {name: options[name] for name in SHOWN_OPTIONS if options.get(name) is not None}
    for name in SHOWN_FILES:
        if options.get(name) is not None:
            paths = options[name] if isinstance(options[name], list) else [options[name]]
            shown[name] = ", ".join(_file_name(str(path)) for path in paths)
    return shown


def _file_name(path: str) -> str:
    return re.split(r"[/\\]", re.split(r"[?#]", path)[0].rstrip("/\\"))[-1]


def public_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest -> the same without what is nobody else's business: local paths, URLs, cloud projects. What is left
    is not what its digests tell of, so they go too."""
    refreshes = {}
    for label, entry in manifest["refreshes"].items():
        backend = {name: value for name, value in entry.get("backend", {}).items() if name not in _HIDDEN_OF_BACKEND}
        refreshes[label] = {**entry, "options": shown_options(entry), "backend": backend}
        refreshes[label].pop(DIGEST, None)
    return {**manifest, "refreshes": refreshes}


def is_ours(text: str) -> bool:
    """The text of a README.md -> whether a later run may write it anew."""
    return MARK in text


# --- hostile values

_JOINERS: Final = "\u200c\u200d"  # invisible, and part of how Persian, Hindi and some emoji are written
_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,80}")
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()<>#+|~$&@!])")
_ADDRESS: Final = re.compile(r"(?i)(https?|ftp|mailto|www)([:.])")  # Markdown makes links of bare addresses


def inline(value: object, limit: int = _CELL) -> str:
    """Any value -> Markdown that shows it as it is, on one line, in a table too. At most `limit` characters of it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    text = _cut(clean_text(text), limit)
    text = " ".join("".join(_shown(char) for char in text).split())
    return _ADDRESS.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", text)) or '""'


def _name(value: str) -> str:
    """A name -> Markdown code, where it is made of a name's letters; else as `inline`."""
    return f"`{value}`" if _NAME.fullmatch(value) else inline(value)


def _shown(char: str) -> str:
    """A character -> the same; a space for a control character, nothing for one that reorders or hides others."""
    if char.isprintable() or char in _JOINERS:
        return char
    return "" if unicodedata.category(char) == "Cf" else " "


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " …"


def _sample(row: Mapping[str, Any]) -> str:
    """A row of examples -> JSON to stand in a fenced block: no value has a line of its own, so none can end it."""
    names = ("task", "input_text", "label", "misleading_label", *COUNTED[:-1])
    texts = {name: _cut(clean_text(str(row[name])), _SAMPLE) for name in names if name in row}
    shown = json.dumps(texts, ensure_ascii=False, indent=2)
    return "".join(char if _may_stand(char) else json.dumps(char)[1:-1] for char in shown)


def _may_stand(char: str) -> bool:
    """A character of a JSON text -> whether it may stand as it is; the line breaks are the text's own."""
    return char == "\n" or char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


# --- the front matter

_DTYPES: Final[Mapping[Any, Mapping[str, str]]] = {
    pa.string(): {"dtype": "string"},
    pa.int64(): {"dtype": "int64"},
    pa.float64(): {"dtype": "float64"},
    pa.bool_(): {"dtype": "bool"},
    pa.list_(pa.string()): {"list": "string"},
}
"""Arrow's types, in the words of `datasets.Features`."""


def _columns(kind: str, entries: Iterable[Mapping[str, Any]]) -> pa.Schema:
    """A kind of data -> the columns of all its files, whenever they were written; none where they are not known."""
    if kind == "triplets":
        return TRIPLETS
    if kind not in KINDS:
        return pa.schema([])
    keep_raw = any(entry.get("options", {}).get("keep_raw") for entry in entries)
    return schema_of(kind, keep_raw=keep_raw)


def _configs(kinds: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for kind in kinds:
        columns = _columns(kind, entries)
        known = all(field.type in _DTYPES for field in columns)
        features = [{"name": field.name, **_DTYPES[field.type]} for field in columns] if known else []
        yield {
            **_config(kind, kind),
            **({"default": True} if kind == kinds[0] else {}),
            **({"features": features} if features else {}),
        }
        if kind == "triplets":
            yield {**_config(TEXTS, kind), "columns": TRIPLETS.names[:3]}


def _config(name: str, kind: str) -> dict[str, Any]:
    return {"config_name": name, "data_files": [{"split": "train", "path": f"{kind}/refresh=*/*.parquet"}]}


def size_category(rows: int) -> str:
    """How many examples -> the size category, as the Hub names it."""
    bounds = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    if rows < 1_000:
        return "n<1K"
    power = len(str(rows)) - 4
    return f"{bounds[power]}<n<{bounds[power + 1]}" if power < len(bounds) - 1 else "n>1T"


def language_codes(names: Iterable[str]) -> list[str]:
    """Names of languages, as rows hold them -> their BCP 47 tags, in order, each once; unknown names are left out."""
    found = set()
    for name in names:
        try:
            found.add(find_language(name).code)
        except UnknownLanguage:
            continue
    return sorted(found)


def _front_matter(
    kinds: Sequence[str], entries: Sequence[Mapping[str, Any]], codes: Sequence[str], examples: int, license_: str
) -> str:
    primary = sorted({code.partition("-")[0] for code in codes})
    fields: dict[str, Any] = {"pretty_name": "Text classification examples, by Textmint", "license": license_}
    if primary:
        fields["language"] = primary  # the Hub takes ISO 639 codes here
        if primary != list(codes):
            fields["language_details"] = list(codes)  # and BCP 47 tags there
        fields["multilinguality"] = ["multilingual" if len(primary) > 1 else "monolingual"]
    fields |= {
        "task_categories": ["text-classification", "sentence-similarity", "feature-extraction"],
        "size_categories": [size_category(examples)],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "tags": ["synthetic", "text-embeddings", "sentence-transformers", "textmint"],
        "configs": list(_configs(kinds, entries)),
    }
    # ASCII only: whatever reads the front matter line by line sees the same lines.
    return "---\n" + yaml.safe_dump(fields, sort_keys=False, allow_unicode=False, width=1_000) + "---\n"


# --- the text


def dataset_card(
    manifest: Mapping[str, Any],
    samples: Iterable[Mapping[str, Any]] = (),
    *,
    statistics: Mapping[str, Statistics] | None = None,
    license: str = "unknown",
) -> str:
    """The manifest and some rows of examples -> the text of the dataset card.

    Args:
      manifest: as `write_dataset.read_manifest` gives it.
      samples: rows of examples, as mappings; two of different tasks are shown, the first ones.
      statistics: of each refresh; None: those that stand in the manifest, under `statistics` of each entry.
      license: an identifier of https://huggingface.co/docs/hub/repositories-licenses. What the texts are worth in law
        depends on the terms of whoever serves the model, so nothing is claimed by itself.

    Raises:
      ValueError: the license is no identifier.
    """
    if not LICENSE.fullmatch(license):
        raise ValueError(f"license is {license!r}; it must be an identifier such as cc-by-4.0")
    refreshes: dict[str, Mapping[str, Any]] = dict(sorted(manifest["refreshes"].items()))
    entries = list(refreshes.values())
    counts = {
        label: statistics.get(label, Statistics(values={}))
        if statistics is not None
        else Statistics.of_json(entry.get("statistics"))
        for label, entry in refreshes.items()
    }
    rows = _rows_by_kind(entries)
    kinds = [kind for kind in (*_ORDER, *sorted(set(rows) - set(_ORDER))) if rows.get(kind) or _is_always(kind, rows)]
    languages = {name for found in counts.values() for name in found.values.get("language", {})}
    if statistics is None:  # an entry of an earlier version counts none of its rows
        languages |= {name for entry in entries if "statistics" not in entry for name in _asked(entry, "language")}
    codes = language_codes(languages)
    parts = [
        _front_matter(kinds, entries, codes, rows.get("examples", 0), license),
        MARK,
        "# Text classification examples, by Textmint",
        *_introduction(rows, entries),
        *_samples(samples),
        *_how_to_load(kinds, rows),
        *_making(refreshes),
        *_refreshes(refreshes),
        *_attributes(refreshes, counts),
        *_labels(counts),
        *_rejects(entries),
        *_limits(entries, license),
        *_citation(),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


_ORDER: Final = ("examples", "triplets", "tasks", "label_sets", "rejects")

_KINDS: Final[Mapping[str, str]] = {
    "examples": "a row an example, with all that explains it: task, text, both labels, attributes, prompt, model",
    "triplets": "the same examples as training reads them: `anchor`, `positive`, `negative`, and ids",
    "tasks": "the classification tasks",
    "label_sets": "the labels that were planned for each task",
    "rejects": "what was refused, by which step and why, with the reply as it came",
}


def _rows_by_kind(entries: Iterable[Mapping[str, Any]]) -> collections.Counter[str]:
    rows: collections.Counter[str] = collections.Counter()
    for entry in entries:
        for kind, files in entry.get("files", {}).items():
            if re.fullmatch(r"[a-z][a-z_]*", kind):
                rows[kind] += sum(file["rows"] for file in files)
    return rows


def _is_always(kind: str, rows: Mapping[str, int]) -> bool:
    """Is a kind shown without rows too? Rejects are, where a run has written them."""
    return kind == "rejects" and kind in rows


def _introduction(rows: Mapping[str, int], entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if any(_is_offline(entry) for entry in entries):
        yield (
            "> **Not for training.** Rows whose `model` begins with `offline` come from the author that is embedded in "
            "Textmint for trying it out."
        )
    yield (
        f"{rows.get('examples', 0):,} examples of {rows.get('tasks', 0):,} text classification tasks, written by a "
        "large language model to train text embedding models on. A row holds a task, a text, its correct label, and a "
        "misleading label that is valid for the task but wrong for the text. The method is that of "
        "[Improving Text Embeddings with Large Language Models](https://arxiv.org/abs/2401.00368)."
    )
    yield _table(
        ("config", "rows", "what it holds"),
        [(f"`{kind}`", f"{rows[kind]:,}", _KINDS[kind]) for kind in _ORDER if rows.get(kind) or _is_always(kind, rows)],
    )


def _samples(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    shown: list[Mapping[str, Any]] = []
    for row in rows:
        if all(row.get("task_id") != other.get("task_id") for other in shown):
            shown.append(row)
        if len(shown) == 2:
            break
    if shown:
        yield "## Two examples" if len(shown) == 2 else "## An example"
        yield from (f"```json\n{_sample(row)}\n```" for row in shown)


def _how_to_load(kinds: Sequence[str], rows: Mapping[str, int]) -> Iterator[str]:
    yield "## How to load and train"
    lines = ["from datasets import load_dataset", "", 'DATASET = "OWNER/NAME"  # or the path of this folder']
    lines += [
        f'{kind} = load_dataset(DATASET, "{kind}", split="train"'
        + (")" if rows.get(kind) else ", streaming=True)  # there are none, which is loaded by streaming only")
        for kind in kinds
        if kind in _KINDS
    ]
    yield "```python\n" + "\n".join(lines) + "\n```"
    first = "triplets" if "triplets" in kinds else kinds[0] if kinds else "examples"
    yield (
        "A refresh (see below) is no column; one of them is loaded by its files, such as "
        f'`load_dataset(DATASET, "{first}", data_files="{first}/refresh=base/*.parquet")`.'
    )
    if "triplets" not in kinds:
        return
    yield (
        f"`{TEXTS}` is the config of the triplets without the ids: the losses of sentence-transformers train on every "
        "column that they are given."
    )
    yield (
        "```python\n"
        "from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer\n"
        "from sentence_transformers.losses import MultipleNegativesRankingLoss\n\n"
        'model = SentenceTransformer("intfloat/multilingual-e5-small")\n'
        f'texts = load_dataset(DATASET, "{TEXTS}", split="train")\n'
        "SentenceTransformerTrainer(model, train_dataset=texts, loss=MultipleNegativesRankingLoss(model)).train()\n"
        "```"
    )
    yield (
        "Many examples of a batch can share a label, which then is no negative of theirs. `label_id` and "
        "`misleading_label_id` name labels within their task, whatever their spelling; "
        "`examples/train_embeddings.py` of Textmint has a loss that masks such negatives."
    )


def _is_offline(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("backend", {}).get("backend") == "offline")


def _asked(entry: Mapping[str, Any], attribute: str) -> Mapping[str, float]:
    """-> the values that a refresh asked for, with their weights."""
    weights: Mapping[str, float] = entry.get("attributes", {}).get(attribute, {})
    return weights


def _making(refreshes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "## How it was made"
    yield (
        "Textmint, an Apache Beam pipeline, brainstorms tasks with the model (or takes given ones), draws the "
        "attributes of each example by a hash, asks the model for the example, reads its reply as data, and refuses "
        "what cannot be used. Equal replies give equal rows."
    )
    facts: dict[tuple[str, str], list[str]] = {}

    def note(name: str, value: object, label: str) -> None:
        facts.setdefault((name, _name(value) if isinstance(value, str) else inline(value)), []).append(label)

    for label, entry in refreshes.items():
        if model := entry.get("backend", {}).get("model"):
            note("model", model, label)
        for what, template in entry.get("templates", {}).items():
            note(f"template_{what}", template, label)
        for option, value in shown_options(entry).items():
            if option != "model":
                note(f"--{option}", value, label)
        for name, value in entry.get("backend", {}).items():
            if value == REFUSED and name not in SHOWN_OPTIONS:
                note(name, value, label)
        if version := entry.get("versions", {}).get("textmint"):
            note("textmint", version, label)
    single = len(refreshes) < 2
    lines = [
        (_name(name), value, *(() if single else (_listed(labels, len(refreshes)),)))
        for (name, value), labels in sorted(facts.items(), key=lambda fact: (_fact_order(fact[0][0]), fact[1][0]))
    ]
    yield _table(("what", "value", *(() if single else ("refreshes",))), lines)


def _fact_order(name: str) -> tuple[int, str]:
    kinds = ("model", "template", "--", "textmint")
    return next((place for place, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name


def _listed(labels: Sequence[str], of: int) -> str:
    if len(labels) == of:
        return "all"
    shown = ", ".join(inline(label) for label in labels[:_REFRESHES])
    return shown if len(labels) <= _REFRESHES else f"{shown} and {len(labels) - _REFRESHES:,} more"


def _refreshes(refreshes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "## Refreshes"
    yield "Each run of the pipeline stands under a label of its own, in folders `refresh=LABEL`."
    kinds = [kind for kind in _ORDER if any(kind in entry.get("files", {}) for entry in refreshes.values())]
    lines = []
    total: collections.Counter[str] = collections.Counter()
    for label, entry in refreshes.items():
        rows = _rows_by_kind([entry])
        total.update(rows)
        lines.append((inline(label), *(f"{rows.get(kind, 0):,}" for kind in kinds)))
    if len(lines) > _LINES:
        lines = [(f"{len(lines) - _LINES:,} others", *("" for _ in kinds)), *lines[-_LINES:]]
    if len(refreshes) > 1:
        lines.append(("all", *(f"{total.get(kind, 0):,}" for kind in kinds)))
    yield _table(("refresh", *(kind.replace("_", " ") for kind in kinds)), lines)


def _attributes(refreshes: Mapping[str, Mapping[str, Any]], counts: Mapping[str, Statistics]) -> Iterator[str]:
    labels = list(refreshes)[-_REFRESHES:] if len(refreshes) > 1 else []
    tables = []
    for column in COUNTED:
        total: collections.Counter[str] = collections.Counter()
        for found in counts.values():
            total.update(found.values.get(column, {}))
        if not total:
            continue
        whole = sum(total.values())
        lines = [
            (
                inline(value),
                f"{count:,}",
                f"{100 * count / whole:.1f} %",
                *(f"{counts[label].values.get(column, {}).get(value, 0):,}" for label in labels),
            )
            for value, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))
        ]
        tables.append(_table((column, "examples", "share", *(inline(label) for label in labels)), _some(lines)))
    if tables:
        yield "## Attributes"
        yield "What each example was asked to be, and the model that wrote it, as served."
        yield from tables


def _some(lines: Sequence[tuple[str, ...]]) -> Sequence[tuple[str, ...]]:
    if len(lines) <= _LINES:
        return lines
    return [*lines[:_LINES], (f"{len(lines) - _LINES:,} more", *("" for _ in lines[0][1:]))]


def _labels(counts: Mapping[str, Statistics]) -> Iterator[str]:
    frequent: collections.Counter[str] = collections.Counter()
    for found in counts.values():
        frequent.update(dict(found.frequent_labels))
    if not frequent:
        return
    yield "## Labels"
    last = list(counts.items())[-_REFRESHES:]
    many = [f"{found.labels:,}" + (f" in {inline(label)}" if len(counts) > 1 else "") for label, found in last]
    yield f"Different labels, counted within their tasks: {', '.join(many)}. The most frequent, in all tasks:"
    ordered = sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT_LABELS]
    yield _table(("label", "examples"), [(inline(label), f"{count:,}") for label, count in ordered])


def _rejects(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield "## What was refused"
    refused: collections.Counter[tuple[str, str]] = collections.Counter()
    steps: dict[str, None] = {}
    for entry in entries:
        for step, line in entry.get("steps", {}).items():
            steps.setdefault(step)
            for reason, count in line.get("rejected", {}).items():
                refused[step, reason] += count
    if not refused:
        yield "Nothing."
        return
    order = {step: place for place, step in enumerate(steps)}
    lines = [
        (_name(step), _name(reason), f"{count:,}", REASONS.get(reason, ""))
        for (step, reason), count in sorted(refused.items(), key=lambda item: (order[item[0][0]], -item[1], item[0][1]))
    ]
    yield _table(("step", "reason", "count", "meaning"), _some(lines))


def _limits(entries: Sequence[Mapping[str, Any]], license_: str) -> Iterator[str]:
    yield "## Limits"
    lines = [
        "The texts are synthetic. What they say of people, places and events is made up, and may be wrong.",
        "The model's own leanings are in the texts: which topics and names it thinks of, how it writes in a language, "
        "what it holds for a typical case. Languages that it knows less well are written less well.",
        "Labels are the model's word for its own text; nobody has looked at them. A misleading label can be right too, "
        "above all where `clarity` is `ambiguous`.",
        "The attributes are what was asked for, not what was measured.",
    ]
    if any(_is_offline(entry) for entry in entries):
        lines.append("Rows of the embedded author (`model` begins with `offline`) are not for training.")
    if license_ == "unknown":
        lines.append("No license is claimed: see the terms of whoever serves the model before you pass the texts on.")
    yield "\n".join(f"- {line}" for line in lines)


def _citation() -> Iterator[str]:
    yield "## Citation"
    yield (
        "```bibtex\n"
        "@misc{wang2024improving,\n"
        "  title         = {Improving Text Embeddings with Large Language Models},\n"
        "  author        = {Wang, Liang and Yang, Nan and Huang, Xiaolong and Yang, Linjun and Majumder, Rangan and "
        "Wei, Furu},\n"
        "  year          = {2024},\n"
        "  eprint        = {2401.00368},\n"
        "  archivePrefix = {arXiv},\n"
        "  primaryClass  = {cs.CL},\n"
        "  url           = {https://arxiv.org/abs/2401.00368}\n"
        "}\n"
        "```"
    )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell or " " for cell in row) + " |" for row in rows)
