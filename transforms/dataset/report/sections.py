"""The sections of the report on one refresh, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from textmint.transforms.core.elements import HELD_BACK, REASONS
from textmint.transforms.core.texts import counted
from textmint.transforms.dataset.accounting import STEPS, SURPLUS
from textmint.transforms.dataset.card import facts_of
from textmint.transforms.dataset.manifest import TARGET
from textmint.transforms.dataset.report.parts import (
    LINES,
    MANY,
    TEXTS,
    Entry,
    Group,
    Picture,
    Section,
    Statistics,
    Table,
    Text,
    as_text,
    by_words,
    cost_of,
    decimal,
    distribution,
    dollars,
    drafts_of,
    grouped_bars,
    percent,
    published_at,
    quantiles,
    requests_of,
    shortened,
    time_of,
    whole,
)


def kept_section(entry: Entry, statistics: Statistics) -> Section:
    """Makes the section on what was asked, kept and refused, with examples of each reason."""
    steps = entry.get("steps", {})
    refused = {step: sum(line["rejected"].values()) for step, line in steps.items()}
    funnel = [step for step in STEPS[STEPS.index("SampleAttributes") :] if step in steps]
    series = [("kept", [steps[step]["kept"] for step in funnel]), ("refused", [refused[step] for step in funnel])]
    reasons = [(reason, step, count) for step, line in steps.items() for reason, count in line["rejected"].items()]
    reasons.sort(key=lambda each: (-each[2], each[0], each[1]))
    pictures = [grouped_bars("Examples that each step kept and refused", funnel, series, stacked=True, warns=True)]
    if reasons:
        names, counts = [reason for reason, *_ in reasons], [count for *_, count in reasons]
        pictures.append(grouped_bars("Why they were refused, in all steps", names, [("refused", counts)], warns=True))
    rows: list[Sequence[Table | Picture]] = [
        pictures,
        [
            Table(
                "What went into each step, and what came of it",
                ("step", "in", "kept", "refused", "kept of in"),
                [
                    (
                        step,
                        *(whole(number) for number in (line["in"], line["kept"], refused[step])),
                        "–" if step == "SampleAttributes" else percent(line["kept"], line["in"]),
                    )
                    for step, line in steps.items()
                ],
            )
        ],
    ]
    if reasons:
        of_all = sum(refused.values())
        lines = [
            (reason, _meaning(reason), step, whole(count), percent(count, of_all)) for reason, step, count in reasons
        ]
        rows.append([Table("Every reason", ("reason", "meaning", "step", "count", "share"), shortened(lines), texts=3)])
    drafts = drafts_of(entry)
    lost = sum(count for reason, step, count in reasons if step in funnel and reason not in SURPLUS)
    share = percent(lost, drafts)
    lead = (
        f"{whole(drafts)} examples were asked for, in {counted(steps.get('Flatten', {}).get('kept', 0), 'task')}; "
        f"{whole(lost)} were refused on the way ({share}). SampleAttributes makes many drafts of a task; the "
        "steps before it count lists and tasks."
    )
    notes = []
    if lost > MANY * drafts:
        notes.append(f"More than a tenth of the examples that were asked for was refused: {share}.")
    notes += _missing(entry, sum(steps[step].get(HELD_BACK, 0) for step in funnel), statistics["rows"]["examples"])
    groups = list(_refused(statistics))
    return Section("kept", "From what was asked to what was kept", lead, rows, notes, groups)


def _missing(entry: Entry, held_back: int, examples: int) -> Iterator[str]:
    """Yields what a run has not asked for, where that was not its aim: a target that is reached wants no more."""
    if target := entry.get(TARGET):
        if examples < target["examples"]:
            missing = counted(target["examples"] - examples, "example")
            yield f"{missing} of the target of {whole(target['examples'])} missing: {target['stopped_by']}."
    elif held_back:
        yield f"{counted(held_back, 'draft')} more were planned, and held back by a cap on what may be spent."


def _meaning(reason: str) -> str:
    return REASONS.get(reason, "a reason that this version does not know")


def _refused(statistics: Statistics) -> Iterator[Group]:
    for line in statistics["rejects"][:LINES]:
        texts = [
            Text(each["task"] or "", [each["reply"]] if each["reply"] else (), [("detail", each["detail"])])
            for each in line["samples"]
        ]
        title = f"{line['reason']} · {line['stage']} · {whole(line['count'])}"
        yield Group(title, texts, _meaning(line["reason"]), is_folded=True)


def tasks_section(statistics: Statistics) -> Section:
    """Makes the section on how many examples and labels tasks have."""
    tasks, labels = statistics["tasks"], statistics["labels"]
    frequent = labels["most_frequent"][:TEXTS]
    without = tasks["without_examples"]
    notes = (
        [f"{counted(without, 'task')} {'has' if without == 1 else 'have'} no example: all were refused."]
        if without
        else []
    )
    rows: list[list[Table | Picture]] = [
        [
            *distribution("Tasks by their number of examples", "examples", tasks["examples"]["histogram"]),
            *distribution("Tasks by their number of labels", "labels", tasks["labels"]["histogram"]),
        ],
        [
            quantiles(
                "Over all tasks",
                "of a task",
                {
                    "examples": tasks["examples"],
                    "labels": tasks["labels"],
                    "entropy of labels, bits": tasks["entropy_bits"],
                    "share of the most frequent label": tasks["largest_share"],
                },
            )
        ],
    ]
    if frequent:
        names, counts = [each["label"] for each in frequent], [each["count"] for each in frequent]
        table = Table(
            "The ten most frequent labels",
            ("label", "examples", "share"),
            [
                (name, whole(count), percent(count, statistics["rows"]["examples"]))
                for name, count in zip(names, counts, strict=True)
            ],
        )
        rows.append([grouped_bars("The ten most frequent labels", names, [("examples", counts)]), table])
    rows.append([_task_table("Tasks with the most examples", tasks["most_examples"])])
    lead = (
        f"{counted(tasks['with_examples'], 'task')} with {counted(labels['distinct'], 'different label')}, without "
        "regard to case and punctuation."
    )
    return Section("tasks", "Examples and labels of tasks", lead, rows, notes)


def _task_table(caption: str, tasks: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        caption,
        (
            "task",
            "most frequent labels",
            "examples",
            "labels",
            "entropy, bits",
            "of at most",
            "largest share",
            "disputed",
        ),
        shortened(
            (
                each["task"],
                ", ".join(f"{label['label'][:60]} ({whole(label['count'])})" for label in each["most_frequent"]),
                whole(each["examples"]),
                whole(each["labels"]),
                decimal(each["entropy_bits"]),
                percent(each["normalised_entropy"], 1),
                percent(each["largest_share"], 1),
                whole(each["disputed"]),
            )
            for each in tasks[:TEXTS]
        ),
        texts=2,
    )


def labels_section(statistics: Statistics) -> Section:
    """Makes the section on the balance of labels, and on disputed ones."""
    tasks, disputed = statistics["tasks"], statistics["labels"]["disputed"]
    notes = []
    if one := tasks["one_label"]:
        notes.append(
            f"{counted(one, 'task')} with two or more examples {'has' if one == 1 else 'have'} one label only: a model "
            "learns nothing else there. --label_plan=planned asks for each label of a task."
        )
    if disputed:
        notes.append(
            f"{counted(disputed, 'row')} refused since a model, asked which label fits, did not name the label."
        )
    rows: list[list[Table | Picture]] = [
        [
            *distribution(
                "Tasks by the balance of their labels", "entropy, of at most", tasks["normalised_entropy"]["histogram"]
            ),
            *distribution(
                "Tasks by the share of their most frequent label", "share", tasks["largest_share"]["histogram"]
            ),
        ]
    ]
    if tasks["most_unbalanced"]:
        rows.append([_task_table("Tasks whose labels are the least balanced", tasks["most_unbalanced"])])
    if tasks["most_disputed"]:
        rows.append([_task_table("Tasks whose labels were disputed most", tasks["most_disputed"])])
    lead = (
        "Of tasks with two or more examples: how evenly their labels are used. The entropy is measured against that of "
        f"as many labels of equal frequency; 0 is one label alone. Disputed labels: {whole(disputed)}."
    )
    return Section("balance", "Label balance and disputed labels", lead, rows, notes)


_OFF: Final = 0.05  # of the texts of a length; a share that is worth a note


def lengths_section(statistics: Statistics) -> Section:
    """Makes the section on words asked for and got."""
    lengths = by_words(statistics["lengths"])
    short = [each["too_short"] for each in lengths.values()]
    long = [each["too_long"] for each in lengths.values()]
    fitting = [each["examples"] - each["too_short"] - each["too_long"] for each in lengths.values()]
    notes = []
    for many, what in ((short, "fewer"), (long, "more")):
        off = [
            f"“{name}” {whole(count)} of {whole(each['examples'])}"
            for (name, each), count in zip(lengths.items(), many, strict=True)
            if count > _OFF * each["examples"]
        ]
        if off:
            notes.append(f"Texts with {what} words than asked for: {', '.join(off[:TEXTS])}.")
    rows: list[list[Table | Picture]] = []
    if lengths:
        series = [("as asked", fitting), ("shorter", short), ("longer", long)]
        table = Table(
            "Length asked and got",
            ("num_words", "examples", "shorter", "longer", "as asked"),
            [
                (name, *(whole(number) for number in (each["examples"], less, more)), percent(fit, each["examples"]))
                for (name, each), less, more, fit in zip(lengths.items(), short, long, fitting, strict=True)
            ],
        )
        rows.append([grouped_bars("Texts by length asked", list(lengths), series, stacked=True, warns=True), table])
        rows.append([quantiles("Words of the texts", "num_words asked", lengths)])
        drawn = [
            distribution(f"Words where “{name}” was asked", "words", each["histogram"])
            for name, each in lengths.items()
        ]
        rows.append([picture for each in drawn for picture in each])
    lead = "Words of the kept texts by what num_words asked for. The check wrong_length refuses only what is far off."
    return Section("lengths", "Length asked and got", lead, rows, notes)


def attributes_section(statistics: Statistics) -> Section:
    """Makes the section on attributes asked and kept, and on the languages found."""
    rows: list[list[Table | Picture]] = []
    for attribute, values in statistics["attributes"].items():
        counts = by_words(values) if attribute == "num_words" else dict(sorted(values.items(), key=_most_asked))
        series = [(what, [each[what] for each in counts.values()]) for what in ("kept", "asked")]
        lines = [
            (name, whole(each["asked"]), whole(each["kept"]), percent(each["kept"], each["asked"]))
            for name, each in counts.items()
        ]
        table = Table(f"{attribute}, asked and kept", (attribute, "asked", "kept", "kept of asked"), shortened(lines))
        if lines:
            rows.append([grouped_bars(f"Examples by {attribute}", list(counts), series), table])
    models = sorted(statistics["models"].items(), key=lambda item: (-item[1], item[0]))
    if models:
        of_models = [(name, whole(count), percent(count, statistics["rows"]["examples"])) for name, count in models]
        rows.append(
            [Table("Models that wrote the examples, as served", ("model", "examples", "share"), shortened(of_models))]
        )
    lead = (
        "What was asked for by hash, and what was kept of it: a value of which less is kept is one that the model "
        "finds hard."
    )
    return Section("attributes", "Attributes asked and got", lead, rows)


def _most_asked(item: tuple[str, Mapping[str, int]]) -> tuple[int, str]:
    return -item[1]["asked"], item[0]


_VERDICTS: Final[Mapping[str, str]] = {"right": "as asked", "wrong": "another", "unknown": "cannot tell"}


def languages_section(statistics: Statistics) -> Section:
    """Makes the section on the languages that were found."""
    found, sample = statistics["languages"]["found"], counted(statistics["languages"]["sample"], "text")
    asked = list(
        dict.fromkeys(each["asked"] for each in sorted(found, key=lambda each: (-each["count"], each["asked"])))
    )
    series = [
        (said, [_texts_of(found, verdict, language) for language in asked]) for verdict, said in _VERDICTS.items()
    ]
    right, wrong, unknown = (sum(counts) for _, counts in series)
    rows: list[list[Table | Picture]] = []
    if found:
        lines = [
            (each["asked"], each["found"] or "–", _VERDICTS.get(each["verdict"], each["verdict"]), whole(each["count"]))
            for each in sorted(found, key=lambda each: -each["count"])
        ]
        table = Table("Languages asked and found", ("asked", "found", "verdict", "texts"), shortened(lines), texts=3)
        rows.append([grouped_bars("Texts by language asked", asked, series, stacked=True, warns=True), table])
    texts = [
        Text("", [each["text"]], [("asked", each["asked"]), ("found", each["found"] or ""), ("id", each["id"])])
        for each in statistics["languages"]["wrong"][:TEXTS]
    ]
    lead = (
        f"The language of {sample}, picked by hash, was identified: {whole(right)} as asked, {whole(wrong)} in "
        f"another, {whole(unknown)} too short, or too like another language, to tell."
    )
    notes = [f"{whole(wrong)} of {sample} {'is' if wrong == 1 else 'are'} in another language than asked for."]
    groups = [Group("Texts in another language than asked for", texts)] if texts else []
    return Section("languages", "Languages asked and got", lead, rows, notes if wrong else (), groups)


def _texts_of(found: Sequence[Mapping[str, Any]], verdict: str, asked: str) -> int:
    return sum(each["count"] for each in found if (each["verdict"], each["asked"]) == (verdict, asked))


def similarity_section(statistics: Statistics) -> Section:
    """Makes the section on how like each other the texts are."""
    similarity = statistics["similarity"]
    threshold, near = similarity["threshold"], similarity["at_threshold"]
    sample = counted(similarity["sample"], "text")
    notes = []
    if near:
        notes.append(
            f"{whole(near)} of {sample} {'is a near copy' if near == 1 else 'are near copies'} of another (a "
            f"similarity of {threshold:g} or more): see the pairs below."
        )
    counts = [each["count"] for each in similarity["histogram"]]
    rows: list[list[Table | Picture]] = [
        [
            *distribution(
                "Texts by their similarity to the nearest other text",
                "similarity",
                similarity["histogram"],
                threshold=threshold,
                log=bool(counts) and max(counts) > 100,
            ),
        ],
        [quantiles("Similarity to the nearest other text", "of a text", {"similarity": similarity})],
    ]
    pairs = [
        Text(
            f"similarity {each['similarity']:.2f}",
            [each["first"]["text"], each["second"]["text"]],
            [
                ("first task", each["first"]["task"]),
                ("second task", each["second"]["task"]),
                ("ids", f"{each['first']['id']}, {each['second']['id']}"),
            ],
        )
        for each in similarity["pairs"][:TEXTS]
    ]
    groups = (
        [Group("The ten most alike", pairs, "Each text with its nearest other, the most alike first.")] if pairs else []
    )
    lead = (
        f"Of {sample} that a hash picked, each was compared with all others: the Jaccard similarity of their runs of "
        "three words, or of five characters where words are not spaced. 1 is the same text. Near copies begin at "
        f"{threshold:g}, where the colour changes."
    )
    return Section("similarity", "Similarity to the nearest other text", lead, rows, notes, groups)


_GRAMS: Final = ("1", "2", "3", "4")


def diversity_section(statistics: Statistics) -> Section:
    """Makes the section on the diversity of texts, by the length asked for."""
    buckets, full = by_words(statistics["diversity"]), statistics["diversity_sample"]
    rows: list[list[Table | Picture]] = []
    if buckets:
        of = list(buckets.values())
        repeated = [each["self_repetition"] for each in of]
        grams = [each["distinct_ngrams"].get("3") for each in of]
        names = list(buckets)
        rows.append(
            [
                grouped_bars(
                    "Compression ratio (lower is more diverse)",
                    names,
                    [("ratio", [each["compression_ratio"] for each in of])],
                    form=".2f",
                ),
                grouped_bars(
                    "Distinct runs of three words (higher is more diverse)", names, [("share", grams)], form=".2f"
                ),
                grouped_bars(
                    "Self-repetition of runs of four words (lower is more diverse)",
                    names,
                    [("score", repeated)],
                    form=".2f",
                ),
            ]
        )
        lines = [
            (
                name,
                whole(each["sample"]),
                whole(each["words"]),
                decimal(each["compression_ratio"]),
                *(decimal(each["distinct_ngrams"].get(gram)) for gram in _GRAMS),
                decimal(each["self_repetition"]),
                "–" if each["repeating"] is None else percent(each["repeating"], 1),
            )
            for name, each in buckets.items()
        ]
        head = (
            "num_words",
            "texts",
            "words",
            "compression",
            *(f"{gram}-grams" for gram in _GRAMS),
            "self-repetition",
            "texts that repeat",
        )
        rows.append(
            [Table("Diversity by length asked; of runs of n words, n-grams, the share that is distinct", head, lines)]
        )
    lead = (
        f"Of the first {whole(full)} texts of each length, by hash. Longer texts repeat more, so compare a length only "
        "with the same length of another dataset, of as many texts. Self-repetition is the mean of ln(1 + how often "
        "the four-word runs of a text stand in other texts) (arXiv 2403.00553, 2507.15092)."
    )
    return Section("diversity", "Diversity by length", lead, rows)


def spending_section(entry: Entry) -> Section:
    """Makes the section on requests, tokens, cost, latency and throttling."""
    asked = requests_of(entry)
    steps = list(asked)
    has_costs = all("cost_usd" in line for line in asked.values())
    rows: list[list[Table | Picture]] = []
    if asked:
        latency = {step: line.get("latency_ms", {}) for step, line in asked.items()}
        tokens = [(kind, [line["tokens"][kind] for line in asked.values()]) for kind in ("prompt", "output")]
        percentiles = [(name, [latency[step].get(name) for step in steps]) for name in ("p50", "p90", "p99")]
        rows.append(
            [
                grouped_bars("Tokens by step", steps, tokens),
                grouped_bars("Latency of replies, milliseconds", steps, percentiles),
            ]
        )
        lines = [
            (
                step,
                *(whole(line["requests"][name]) for name in ("sent", "retries", "asked_again", "from_ledger")),
                *(whole(line["tokens"][kind]) for kind in ("prompt", "output")),
                *("–" if latency[step].get(name) is None else whole(latency[step][name]) for name, _ in percentiles),
                f"{line.get('throttled_seconds', 0):,.1f}",
                *([dollars(line["cost_usd"])] if has_costs else ()),
            )
            for step, line in asked.items()
        ]
        head = (
            *("step", "requests", "retries", "asked again", "ledger", "prompt tokens", "output tokens"),
            *("p50 ms", "p90 ms", "p99 ms", "throttled s", *(["cost"] if has_costs else ())),
        )
        rows.append([Table("Requests, tokens, latency and throttling by step", head, lines)])
    lead = (
        "Replies from the ledger were paid for by an earlier run, and are not counted as tokens here. Throttled: how "
        "long processes waited since the endpoint, or a limit of yours, wanted it."
    )
    if "spending" in entry:
        lead = f"{_paid(entry)} {lead}"
    return Section("spending", "Requests, tokens, cost and latency", lead, rows)


def _paid(entry: Entry) -> str:
    spending = entry["spending"]
    if spending["cost_usd"] is None:
        return "What the run cost is unknown, since no price of the model is known (--price=IN,OUT gives one)."
    sources = dict.fromkeys(spending[name]["source"] for name in ("price", "verify_price") if spending.get(name))
    by = f", by the price of {', '.join(sources)}" if sources else ""
    return f"The run paid {cost_of(entry)}{by}."


def rows_section(statistics: Statistics) -> Section:
    """Makes the section that shows rows."""
    samples = statistics["samples"]
    groups = [
        Group(title, [_example(row) for row in samples[kind][:TEXTS]])
        for kind, title in (("random", "Ten at random, by hash"), ("longest", "The ten longest"))
        if samples[kind]
    ]
    lead = "Texts are cut here. The ten most alike stand under “Similarity to the nearest other text”."
    return Section("rows", "Rows to look at", lead, groups=groups)


def _example(row: Mapping[str, Any]) -> Text:
    facts = [
        (name, row[name])
        for name in ("label", "misleading_label", "language", "difficulty", "clarity", "num_words", "model", "id")
    ]
    return Text(
        row["task"], [row["text"]], [*facts, ("words", whole(row["words"])), ("characters", whole(row["characters"]))]
    )


def origin_section(entries: Mapping[str, Entry], refresh: str) -> Section:
    """Makes the section on how the refresh was made, and on the other refreshes."""
    facts = [(name, as_text(value)) for name, value in facts_of(entries[refresh])]
    others = sorted(entries, key=lambda name: published_at(entries, name), reverse=True)
    lines = [
        (
            name,
            time_of(entries[name]),
            str(entries[name].get("backend", {}).get("model") or ""),
            *(whole(entries[name].get("counts", {}).get(kind, 0)) for kind in ("examples", "tasks", "rejects")),
        )
        for name in others
    ]
    rows: list[list[Table | Picture]] = [
        [Table("How it was made", ("what", "value"), shortened(facts, 2 * LINES), texts=2)],
        [
            Table(
                "Refreshes of the dataset",
                ("refresh", "published", "model", "examples", "tasks", "rejects"),
                shortened(lines),
                texts=3,
            )
        ],
    ]
    return Section(
        "origin",
        "How it was made",
        "Options, templates and versions of the run, and the refreshes of the dataset.",
        rows,
    )
