"""The dataset card, OUTPUT/README.md: what a person reads first and `datasets.load_dataset` reads alone.

Its text is the template `card.md.jinja2`; the figures come from the manifest and `statistics.json`. The front matter is
YAML made of closed sets only: column names, language codes, numbers. Everything else was written by a user or a model
and is hostile: it is cut, escaped and put on one line. Neither times nor paths of the machine are in the card.

What the front matter says, for `datasets` 5.2:
  - each config names its files, so that nothing else in the folder is read;
  - a config without rows can only be streamed, so only kinds with rows have one, and rejects;
  - without `features` the first file's columns count, and a later file with one more (`raw_reply`) ends the load.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from markupsafe import Markup
from textmint.transforms.core.elements import REASONS
from textmint.transforms.core.languages import UnknownLanguage, find_language
from textmint.transforms.dataset.accounting import REFUSED
from textmint.transforms.dataset.manifest import read_entries
from textmint.transforms.dataset.markdown import inline, json_block, name
from textmint.transforms.dataset.pages import MARK, page_template, write_page
from textmint.transforms.dataset.public_manifest import SHOWN_OPTIONS, shown_options
from textmint.transforms.dataset.schema import KINDS, schema_of
from textmint.transforms.dataset.statistics_file import read_statistics
from textmint.transforms.dataset.triplets import TRIPLETS
from textmint.transforms.storage.files import join, open_file

CARD: Final = "README.md"
TEXTS: Final = "sentence-transformers"
"""The config of the triplets' three texts alone: the losses of sentence-transformers train on every column they get."""
LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
"""What an identifier of a license looks like, in --license and in the card."""
COUNTED: Final = ("language", "difficulty", "clarity", "num_words", "model")
"""The columns of examples whose values the card counts."""

_REFRESHES: Final = 6  # with a column of their own; more make a table that nobody can read
_LINES: Final = 120  # of a table; XLM-R has 100 languages
_SAMPLE: Final = 600  # characters of a text among the samples
_SAMPLE_ROWS: Final = 50  # rows that are read to find two of different tasks

Entry = Mapping[str, Any]
Figures = Mapping[str, Any]
_Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # head and lines


# --- the front matter

_DTYPES: Final[Mapping[Any, Mapping[str, str]]] = {
    pa.string(): {"dtype": "string"},
    pa.int64(): {"dtype": "int64"},
    pa.float64(): {"dtype": "float64"},
    pa.bool_(): {"dtype": "bool"},
    pa.list_(pa.string()): {"list": "string"},
}
"""Arrow's types, in the words of `datasets.Features`."""
_SIZES: Final = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")


def _configs(kinds: Sequence[str], entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    keep_raw = any(entry.get("options", {}).get("keep_raw") for entry in entries)
    for kind in kinds:
        path = f"{kind}/refresh=*/*.parquet"
        config: dict[str, Any] = {"config_name": kind, "data_files": [{"split": "train", "path": path}]}
        if kind == kinds[0]:
            config["default"] = True
        columns = schema_of(kind, keep_raw=keep_raw) if kind in KINDS else ()
        if columns and all(field.type in _DTYPES for field in columns):
            config["features"] = [{"name": field.name, **_DTYPES[field.type]} for field in columns]
        yield config
        if kind == "triplets":
            texts = [{"split": "train", "path": path}]  # YAML makes references of lists that are used twice
            yield {"config_name": TEXTS, "data_files": texts, "columns": TRIPLETS.names[:3]}


def size_category(rows: int) -> str:
    """Returns the Hub's size category for a number of examples."""
    if rows < 1_000:
        return "n<1K"
    power = len(str(rows)) - 4
    return f"{_SIZES[power]}<n<{_SIZES[power + 1]}" if power < len(_SIZES) - 1 else "n>1T"


def language_codes(names: Iterable[str]) -> list[str]:
    """Returns the BCP 47 tags of languages, sorted. Names that are not known are left out."""
    found = set()
    for language in names:
        try:
            found.add(find_language(language).code)
        except UnknownLanguage:
            continue
    return sorted(found)


def _front_matter(
    kinds: Sequence[str], entries: Sequence[Entry], figures: Sequence[Figures], examples: int, license_: str
) -> Markup:
    languages: set[str] = set()
    for entry, of_entry in zip(entries, figures, strict=True):
        # Where nobody has counted, what was asked for must do.
        languages |= set(_counts_of(of_entry, "language") or entry.get("attributes", {}).get("language", {}))
    codes = language_codes(languages)
    primary = sorted({code.partition("-")[0] for code in codes})
    fields: dict[str, Any] = {"license": license_}
    if primary:
        fields["language"] = primary  # the Hub takes ISO 639 codes here
        if primary != codes:
            fields["language_details"] = codes  # and BCP 47 tags there
        fields["multilinguality"] = ["multilingual" if len(primary) > 1 else "monolingual"]
    fields |= {"size_categories": [size_category(examples)], "configs": list(_configs(kinds, entries))}
    # ASCII only: whatever reads the front matter line by line sees the same lines.
    return Markup(yaml.safe_dump(fields, sort_keys=False, allow_unicode=False, width=1_000))


# --- the figures

_KINDS: Final[Mapping[str, Markup]] = {
    "examples": Markup("the examples, with all that explains them: task, text, labels, attributes, prompt, model"),
    "triplets": Markup("the same examples as training reads them: `anchor`, `positive`, `negative`, and ids"),
    "tasks": Markup("the classification tasks"),
    "label_sets": Markup("the labels that were planned for each task"),
    "rejects": Markup("what was refused, by which step and why, with the reply as it came"),
}
_BLANK: Final = Markup(" ")


def _rows_by_kind(entries: Iterable[Entry]) -> collections.Counter[str]:
    rows: collections.Counter[str] = collections.Counter()
    for entry in entries:
        for kind, files in entry.get("files", {}).items():
            if re.fullmatch(r"[a-z][a-z_]*", kind):
                rows[kind] += sum(file["rows"] for file in files)
    return rows


def _figures_of(entry: Entry) -> Figures:
    """Returns what the manifest of an earlier version counted, as `statistics.json` has it."""
    values = (entry.get("statistics") or {}).get("values", {})
    attributes = {
        column: {value: {"kept": count} for value, count in values.get(column, {}).items()} for column in COUNTED[:-1]
    }
    return {"attributes": attributes, "models": values.get("model", {})}


def _counts_of(figures: Figures, column: str) -> Mapping[str, int]:
    """Returns how many examples of a refresh have which value in a column of COUNTED."""
    if column == "model":
        return dict(figures["models"])
    return {value: count["kept"] for value, count in figures["attributes"][column].items() if count["kept"]}


def _most_frequent(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _shortened(lines: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    if len(lines) <= _LINES:
        return lines
    return [*lines[:_LINES], (f"{len(lines) - _LINES:,} more", *[_BLANK] * (len(lines[0]) - 1))]


def _two_samples(rows: Iterable[Mapping[str, Any]]) -> list[Markup]:
    """Picks the first two examples of different tasks."""
    shown: dict[Any, Mapping[str, Any]] = {}
    for row in rows:
        shown.setdefault(row.get("task_id"), row)
        if len(shown) == 2:
            break
    names = ("task", "input_text", "label", "misleading_label", *COUNTED[:-1])
    return [json_block({key: row[key] for key in names if key in row}, _SAMPLE) for row in shown.values()]


def facts_of(entry: Entry) -> Iterator[tuple[str, object]]:
    """Yields how a refresh was made: model, templates, options, version."""
    backend = entry.get("backend", {})
    if model := backend.get("model"):
        yield "model", model
    for what, template in entry.get("templates", {}).items():
        yield f"template_{what}", template
    for option, value in shown_options(entry).items():
        if option != "model":
            yield f"--{option}", value
    for option, value in backend.items():
        if value == REFUSED and option not in SHOWN_OPTIONS:
            yield option, value
    if version := entry.get("versions", {}).get("textmint"):
        yield "textmint", version


def _facts(refreshes: Mapping[str, Entry]) -> _Table:
    found: dict[tuple[str, Markup], list[str]] = {}
    for refresh, entry in refreshes.items():
        for what, value in facts_of(entry):
            found.setdefault((what, name(value)), []).append(refresh)
    ordered = sorted(found.items(), key=lambda fact: (_place_of(fact[0][0]), fact[1][0]))
    if len(refreshes) < 2:
        return ("what", "value"), [(name(what), value) for (what, value), _ in ordered]
    return ("what", "value", "refreshes"), [
        (name(what), value, _listed(names, len(refreshes))) for (what, value), names in ordered
    ]


def _place_of(what: str) -> tuple[int, str]:
    prefixes = ("model", "template", "--", "textmint")
    return next((place for place, prefix in enumerate(prefixes) if what.startswith(prefix)), len(prefixes)), what


def _listed(refreshes: Sequence[str], of: int) -> Markup:
    if len(refreshes) == of:
        return Markup("all")
    shown = ", ".join(inline(refresh) for refresh in refreshes[:_REFRESHES])
    more = len(refreshes) - _REFRESHES
    return Markup(shown if more <= 0 else f"{shown} and {more:,} more")


def _rows_table(refreshes: Mapping[str, Entry]) -> _Table:
    kinds = [kind for kind in _KINDS if any(kind in entry.get("files", {}) for entry in refreshes.values())]
    lines: list[Sequence[str]] = []
    for refresh, entry in refreshes.items():
        rows = _rows_by_kind([entry])
        lines.append((refresh, *(f"{rows[kind]:,}" for kind in kinds)))
    if len(lines) > _LINES:
        lines = [(f"{len(lines) - _LINES:,} others", *(_BLANK for _ in kinds)), *lines[-_LINES:]]
    if len(refreshes) > 1:
        total = _rows_by_kind(refreshes.values())
        lines.append(("all", *(f"{total[kind]:,}" for kind in kinds)))
    return ("refresh", *(kind.replace("_", " ") for kind in kinds)), lines


def _attributes(figures: Mapping[str, Figures]) -> Iterator[_Table]:
    columns = list(figures)[-_REFRESHES:] if len(figures) > 1 else []
    for attribute in COUNTED:
        counts = {refresh: _counts_of(of_refresh, attribute) for refresh, of_refresh in figures.items()}
        total: collections.Counter[str] = collections.Counter()
        for of_refresh in counts.values():
            total.update(of_refresh)
        lines = []
        for value, count in _most_frequent(total):
            share = f"{100 * count / total.total():.1f} %"
            lines.append((value, f"{count:,}", share, *(f"{counts[column].get(value, 0):,}" for column in columns)))
        if lines:
            yield (Markup(attribute), "examples", "share", *columns), _shortened(lines)


def _rejects(entries: Iterable[Entry]) -> Sequence[Sequence[str]]:
    refused: dict[str, collections.Counter[str]] = {}  # by step, in the order of the graph
    for entry in entries:
        for step, line in entry.get("steps", {}).items():
            refused.setdefault(step, collections.Counter()).update(line.get("rejected", {}))
    return _shortened(
        [
            (name(step), name(reason), f"{count:,}", Markup(REASONS.get(reason, " ")))
            for step, reasons in refused.items()
            for reason, count in _most_frequent(reasons)
        ]
    )


# --- the card


def _escaped(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(inline(value))


def dataset_card(
    manifest: Mapping[str, Any],
    samples: Iterable[Mapping[str, Any]] = (),
    statistics: Mapping[str, Figures] = MappingProxyType({}),
    *,
    license: str = "unknown",
) -> str:
    """Makes the text of the dataset card.

    Args:
      manifest: as `manifest.read_manifest` gives it.
      statistics: as `statistics_file.read_statistics` gives it.
      samples: rows of examples; the first two of different tasks are shown.
      license: an identifier of https://huggingface.co/docs/hub/repositories-licenses. The default claims none, since
        that depends on the terms of whoever serves the model.
    """
    if not LICENSE.fullmatch(license):
        raise ValueError(f"license is {license!r}; it must be an identifier such as cc-by-4.0")
    refreshes: dict[str, Entry] = dict(sorted(manifest["refreshes"].items()))
    entries = list(refreshes.values())
    figures = {refresh: statistics.get(refresh) or _figures_of(entry) for refresh, entry in refreshes.items()}
    rows = _rows_by_kind(entries)
    # Rejects are shown without rows too, where a run has written them.
    others = sorted(set(rows) - set(_KINDS))
    kinds = [kind for kind in (*_KINDS, *others) if rows[kind] or (kind == "rejects" and kind in rows)]
    text = page_template("card.md.jinja2", _escaped).render(
        front_matter=_front_matter(kinds, entries, list(figures.values()), rows["examples"], license),
        mark=Markup(MARK),
        texts=Markup(TEXTS),
        license=license,
        rows={kind: f"{rows[kind]:,}" for kind in (*_KINDS, *kinds)},
        kinds=[Markup(kind) for kind in kinds],
        known=_KINDS,
        first=Markup("triplets" if "triplets" in kinds else kinds[0] if kinds else "examples"),
        configs=[(Markup(f"`{kind}`"), f"{rows[kind]:,}", _KINDS[kind]) for kind in kinds if kind in _KINDS],
        is_offline=any(entry.get("backend", {}).get("backend") == "offline" for entry in entries),
        samples=_two_samples(samples),
        facts=_facts(refreshes),
        refreshes=_rows_table(refreshes),
        attributes=list(_attributes(figures)),
        rejects=_rejects(entries),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def write_card(output: str, refresh: str) -> None:
    """Writes the dataset card, unless the user has made it their own. The license is that of the new refresh."""
    write_page(join(output, CARD), lambda: _card_of(output, refresh))


def _card_of(output: str, refresh: str) -> str:
    entries = read_entries(output)
    license_ = str(entries[refresh].get("options", {}).get("license") or "unknown")
    samples = _read_samples(output, entries)
    return dataset_card({"refreshes": entries}, samples, read_statistics(output, entries), license=license_)


def _read_samples(output: str, entries: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """Reads the first rows of the first file that has examples."""
    for refresh in sorted(entries):
        for file in entries[refresh]["files"].get("examples", ()):
            if file["rows"]:
                with open_file(join(output, file["path"])) as opened:
                    batches = pq.ParquetFile(opened).iter_batches(batch_size=_SAMPLE_ROWS)
                    rows: list[dict[str, Any]] = next(batches).to_pylist()
                return rows
    return []
