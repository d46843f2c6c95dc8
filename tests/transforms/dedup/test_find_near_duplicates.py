"""FindNearDuplicates: which text goes, as a copy of what, and that neither order nor workers decide it."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Sequence

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
from textmint.transforms.dedup.minhash import NearDuplicate, Text, jaccard, normal_form, shingles_of, similarity

from tests.support.helpers import Ran, run_step, shuffled
from tests.support.near_copies import changed, planted, words_of

BASE = words_of(1)
KINDS = planted(30)


def own(id_: str, text: str) -> Text:
    return Text(id=id_, text=text)


def like(number: int, share: float = 0.02) -> str:
    """A near copy of BASE, a run of its words changed; two of them are near copies of each other or not by chance."""
    return " ".join(changed(BASE, share, True, number))


def find(texts: Iterable[Text], threshold: float = 0.8) -> Ran:
    return run_step(FindNearDuplicates(threshold), texts, Text)


def verdicts(texts: Iterable[Text], threshold: float = 0.8) -> dict[str, NearDuplicate]:
    ran = find(texts, threshold)
    found = dict(ran.elements)
    assert len(found) == len(ran.elements)  # once each
    return found


def naive(texts: Sequence[Text], threshold: float) -> dict[str, set[tuple[str, str]]]:
    """What is to be dropped by the plain definition, all pairs compared: {id: names of all that it is a copy of}."""
    normals = [normal_form(text.text) for text in texts]
    found: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)
    for (one, a), (other, b) in itertools.permutations(zip(texts, normals, strict=True), 2):
        before = (other.source == "", other.source, other.id) < (one.source == "", one.source, one.id)
        if one.source == "" and before and similarity(a, b) >= threshold:
            found[one.id].add((other.source, other.id))
    return found


# --- what is dropped


def test_near_copies_of_the_smallest_id_go() -> None:
    texts = [own("b", " ".join(BASE)), own("c", like(1)), own("a", like(2)), own("d", " ".join(words_of(2)))]
    found = verdicts(texts)
    assert set(found) == {"b", "c"}
    assert found["b"] == NearDuplicate(id="a", source="", similarity=similarity(normal_form(like(2)), " ".join(BASE)))
    assert found["c"].id == "a"


def test_exact_copies_go_however_short() -> None:
    texts = [own("3", "Yes!"), own("1", "yes"), own("2", " YES "), own("4", "no"), own("6", ""), own("5", " ")]
    one = {"source": "", "similarity": 1.0}
    assert verdicts(texts) == {
        "2": NearDuplicate(id="1", **one),
        "3": NearDuplicate(id="1", **one),
        "6": NearDuplicate(id="5", **one),
    }  # type: ignore[arg-type]


def test_those_from_elsewhere_win_and_are_never_dropped() -> None:
    texts = [
        own("0", like(1)),
        own("1", "Short."),
        Text(id="7", text=" ".join(BASE), source="refresh 1"),
        Text(id="line 3", text=" ".join(BASE), source="bench.txt"),
        Text(id="8", text=like(2), source="refresh 1"),
        Text(id="9", text="short", source="refresh 1"),
    ]
    assert verdicts(texts) == {
        "0": NearDuplicate(id="line 3", source="bench.txt", similarity=similarity(like(1), " ".join(BASE))),
        "1": NearDuplicate(id="9", source="refresh 1", similarity=1.0),
    }


def test_copies_of_a_text_that_is_like_one_from_elsewhere_are_like_it_too() -> None:
    elsewhere = Text(id="line 1", text=" ".join(BASE), source="bench.txt")
    twin = NearDuplicate(id="line 1", source="bench.txt", similarity=similarity(like(1), " ".join(BASE)))
    texts = [own("a", like(1)), own("b", like(1).upper()), own("c", like(1))]
    assert verdicts([*texts, elsewhere]) == {"a": twin, "b": twin, "c": twin}
    of_run = NearDuplicate(id="a", source="", similarity=1.0)
    assert verdicts(texts) == {"b": of_run, "c": of_run}
    twin_of_run = {"a": NearDuplicate(id="0", source="", similarity=twin.similarity), "b": of_run, "c": of_run}
    assert verdicts([*texts, own("0", " ".join(BASE))]) == twin_of_run


def test_of_refreshes_that_were_published_at_once_the_first_keeps_a_text() -> None:
    """Both were made without knowing of the other, and now are made anew."""
    one = {"r": " ".join(BASE), "short": "Yes!", "exact": " ".join(words_of(7))}
    other = {"s": like(1), "t": "yes", "exact of b": " ".join(words_of(7)), "other": " ".join(words_of(8))}
    published = [
        *(Text(id=id_, text=text, source="~a") for id_, text in one.items()),
        *(Text(id=id_, text=text, source="~b") for id_, text in other.items()),
    ]

    def again(refresh: str, *texts: Text) -> dict[str, str]:
        found = dict(run_step(FindNearDuplicates(refresh=refresh), [*published, *texts], Text).elements)
        return {id_: twin.source for id_, twin in found.items()}

    new = own("z", like(2))  # which neither had, and which is like what both had
    assert set(again("~a", *(own(id_, text) for id_, text in one.items()), new)) == {"z"}
    assert again("", *(own(id_, text) for id_, text in one.items())) == dict.fromkeys(one, "~a")
    assert again("~b", *(own(id_, text) for id_, text in other.items())) == dict.fromkeys(
        ["s", "t", "exact of b"], "~a"
    )
    excluded = Text(id="line 1", text=" ".join(BASE), source="bench.txt")
    assert again("~a", own("r", " ".join(BASE)), excluded) == {"r": "bench.txt"}


def test_a_chain_is_cut_at_its_first_link() -> None:
    words = [f"w{number}" for number in range(100)]
    chain = [" ".join([*words[4 * step :], *(f"v{number}" for number in range(4 * step))]) for step in range(5)]
    texts = [own(str(step), text) for step, text in enumerate(chain)]
    sets = [shingles_of(text) for text in chain]
    assert jaccard(sets[0], sets[1]) >= 0.8 > jaccard(sets[0], sets[4])
    assert {id_: twin.id for id_, twin in verdicts(texts).items()}.keys() == {"1", "2", "3", "4"}
    assert set(verdicts(texts[::2])) < {"0", "2", "4"}


def test_scripts_without_spaces() -> None:
    text = "今天天气很好我们一起去公园散步然后吃了一顿很好的午饭回家睡觉"
    found = verdicts([own("a", text), own("b", text + "了\u3002"), own("c", text[::-1])])
    assert found == {"b": NearDuplicate(id="a", source="", similarity=26 / 27)}  # 30 characters, and one more


def test_nothing_in_nothing_out() -> None:
    assert verdicts([]) == {}
    assert verdicts([own("a", "alone in the world")]) == {}
    assert verdicts([Text(id=id_, text=" ".join(BASE), source="s") for id_ in "ab"]) == {}


def test_the_same_element_twice_is_no_copy_of_itself() -> None:
    assert verdicts([own("a", " ".join(BASE))] * 2) == {}


def test_hostile_texts() -> None:
    texts = [
        "\ud800\udc00 \udfff x y z",
        "\0\0 \0",
        "a" * 100_000,
        "\U0001f642 " * 50,
        "\u202e abc def ghi",
        "w " * 20_000,
    ]
    assert verdicts([own(f"{place:02}", text) for place, text in enumerate(texts)]) == {}
    assert set(verdicts([own(f"{place:02}", text) for place, text in enumerate([*texts, *texts])])) == {
        "06", "07", "08", "09", "10", "11"}  # fmt: skip


@pytest.mark.parametrize("threshold", [0.2, 1.1])
def test_a_threshold_that_is_none_is_refused_before_the_run(threshold: float) -> None:
    with pytest.raises(ValueError, match="near-duplicate threshold"):
        FindNearDuplicates(threshold)


# --- precision and recall, beside the exact similarity of all pairs


def texts_of(kinds: Iterable[object]) -> list[Text]:
    pairs = [pair for kind in kinds for pair in kind.pairs]  # type: ignore[attr-defined]
    return [own(id_, text) for pair in pairs for id_, text in (pair[:2], pair[2:])]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_precision_and_recall_on_planted_pairs(threshold: float) -> None:
    texts = texts_of(KINDS)
    found = verdicts(texts, threshold)
    by_id = {text.id: shingles_of(normal_form(text.text)) for text in texts}
    for id_, twin in found.items():
        assert twin.id < id_
        assert jaccard(by_id[id_], by_id[twin.id]) == twin.similarity >= threshold  # precision 1.0
    pairs = [(pair[0], pair[2]) for kind in KINDS for pair in kind.pairs]
    clear = [pair for pair in pairs if jaccard(by_id[pair[0]], by_id[pair[1]]) >= threshold + 0.05]
    assert len(clear) >= 90
    assert sum(later in found for _, later in clear) >= 0.95 * len(clear)


def test_short_sentences_at_the_threshold_of_tasks() -> None:
    pairs = planted(12, words=20)
    texts = texts_of(pairs)
    found = verdicts(texts, 0.9)
    assert found.keys() <= naive(texts, 0.9).keys()


SENTENCES = st.lists(st.sampled_from("abcd"), min_size=0, max_size=9).map(" ".join)


@settings(max_examples=6)
@given(st.lists(st.tuples(SENTENCES, st.sampled_from(["", "", "f", "g"])), max_size=25), st.sampled_from([0.5, 0.8]))
def test_what_is_dropped_is_a_near_copy_and_all_exact_copies_are(
    items: list[tuple[str, str]], threshold: float
) -> None:
    texts = [Text(id=f"{place:02}", text=text, source=source) for place, (text, source) in enumerate(items)]
    found = verdicts(texts, threshold)
    expected = naive(texts, threshold)
    exact = naive(texts, 1.0)
    assert exact.keys() <= found.keys() <= expected.keys()
    for id_, twin in found.items():
        assert (twin.source, twin.id) in expected[id_] or twin.similarity == 1.0
        if any(source for source, _ in exact[id_]):
            assert twin.source


# --- neither order nor workers


CROWD = [
    *texts_of(planted(4)),
    *(own(f"like {number}", like(number, 0.01 * (1 + number % 4))) for number in range(40)),
    *(own(f"same {number}", " ".join(words_of(5))) for number in range(20)),
    Text(id="line 1", text=like(7), source="bench.txt"),
    Text(id="x", text=" ".join(words_of(5)), source="refresh"),
]


def in_order(elements: Iterable[tuple[str, NearDuplicate]]) -> list[tuple[str, NearDuplicate]]:
    return sorted(elements, key=repr)


def test_the_order_of_texts_changes_nothing() -> None:
    first = in_order(find(CROWD).elements)
    assert len(first) > 60
    assert in_order(find(shuffled(CROWD)).elements) == first


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_the_number_of_workers_changes_nothing(mode: str) -> None:
    options = PipelineOptions(["--direct_num_workers=2", f"--direct_running_mode={mode}"])
    with TestPipeline("FnApiRunner", options=options) as pipeline:
        found = pipeline | beam.Create(shuffled(CROWD)) | beam.Reshuffle() | FindNearDuplicates()
        assert_that(found, equal_to(find(CROWD).elements))


def test_others_do_not_change_who_wins() -> None:
    """More texts of this run with larger ids drop nothing that was kept, and change no twin."""
    ids = [own(f"{place:04}", text.text) for place, text in enumerate(CROWD) if not text.source]
    fewer = verdicts(ids[:60])
    more = verdicts(ids)
    assert {id_: twin for id_, twin in more.items() if id_ <= ids[59].id} == fewer


# --- buckets that are hot


def test_exact_copies_cost_no_comparison() -> None:
    ran = find(own(f"{number:05}", " ".join(BASE)) for number in range(1_000))
    assert len(ran.elements) == 999
    assert ran.counters == {}


def test_a_hot_bucket_takes_comparisons_in_proportion() -> None:
    """All differ in their last word, so they meet in most of the 13 bands; all with all would be 13 times 700,000."""
    texts = [own(f"{number:05}", f"{' '.join(BASE)} {number}") for number in range(1_200)]
    ran = find(texts)
    assert len(ran.elements) == 1_199
    counters = {name.removeprefix("FindNearDuplicates/"): count for name, count in ran.counters.items()}
    assert counters["compared.texts"] == 1_199
    assert counters["buckets.large"] >= 9
    assert counters["compared.sketches"] <= 13 * 1_200


def test_a_crowd_that_is_alike_but_not_a_near_copy_hides_no_pair() -> None:
    """600 texts that share half their words, as from a template, and among them 10 pairs."""
    head = words_of(3, 60)
    texts = [own(f"{number:04}", " ".join([*head, *words_of(1_000 + number, 40)])) for number in range(600)]
    texts += [own(f"copy {number:04}", f"{texts[number].text} more") for number in range(0, 600, 60)]
    assert {id_: twin.id for id_, twin in verdicts(texts).items()} == {
        f"copy {number:04}": f"{number:04}" for number in range(0, 600, 60)
    }
