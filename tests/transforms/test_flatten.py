"""Flatten: what counts as one task, which of several stands for it, and that no item is lost."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.elements import REASONS, Reject, Task, TaskList, TaskSettings
from textmint.transforms.core.tasks import MAX_TASK_CHARS, task_id, task_of
from textmint.transforms.flatten import Flatten, Holder, Numbering, first_of, rank, split_list
from textmint.transforms.sample_attributes import draft_id_of

from tests.support.helpers import Ran, make_list, make_reject, make_task, run_step, shuffled, tally

LISTS = [
    make_list("Sort bees by mood.", "sort  BEES by mood", "Rank caf\u00e9s", round_=2, topic="b"),
    make_list("SORT BEES BY MOOD!", "Rank cafe\u0301s", "Tell frogs from toads", round_=1, topic="a"),
    make_list("tell frogs from toads", "  ", "x" * (MAX_TASK_CHARS + 1), "?!", "Grade eggs", round_=3, topic="c"),
    make_list("Grade eggs", round_=3, topic="d", refused=(("wrong_type", "item 2 is a number", "7"),)),
]
PASSED = make_reject(reason="blocked")
KEPT = {"SORT BEES BY MOOD!": 1, "Rank caf\u00e9s": 1, "Tell frogs from toads": 1, "Grade eggs": 3}


def flatten(lists: Sequence[TaskList | Reject], max_tasks: int | None = None, seed: int = 42) -> Ran:
    return run_step(Flatten(max_tasks, seed), lists, TaskList)


@pytest.fixture(scope="module")
def flat() -> Ran:
    return flatten([*LISTS, PASSED])


def in_order(elements: Sequence[Task | Reject]) -> list[str]:
    return sorted(map(repr, elements))


def test_one_of_each_task_is_kept_and_the_earliest_round_wins(flat: Ran) -> None:
    assert {task.task: task.round for task in flat.of(Task)} == KEPT


def test_every_item_is_a_task_or_a_reject(flat: Ran) -> None:
    items = sum(len(tasks.items) + len(tasks.refused) for tasks in LISTS)
    assert len(flat.elements) == items + 1
    assert dict(tally(flat.of(Reject))) == {
        "blocked": 1,
        "duplicate": 5,
        "empty_field": 2,
        "too_long": 1,
        "wrong_type": 1,
    }
    assert {reject.reason for reject in flat.of(Reject)} <= set(REASONS)


def test_a_reject_shows_what_was_refused(flat: Ran) -> None:
    raw = {(reject.reason, reject.raw_reply) for reject in flat.of(Reject) if reject is not PASSED}
    assert {("wrong_type", "7"), ("too_long", "x" * (MAX_TASK_CHARS + 1)), ("empty_field", "  ")} <= raw
    assert {text for reason, text in raw if reason == "duplicate"} == {
        "Sort bees by mood.",
        "sort BEES by mood",
        "Rank caf\u00e9s",
        "tell frogs from toads",
        "Grade eggs",
    }


def test_ids_of_rejects_differ(flat: Ran) -> None:
    ids = [reject.id for reject in flat.of(Reject)]
    assert len(set(ids)) == len(ids)


def test_rejects_of_the_step_before_pass_untouched(flat: Ran) -> None:
    assert [reject for reject in flat.of(Reject) if reject.stage != "Flatten"] == [PASSED]


def test_counters_are_what_came_out(flat: Ran) -> None:
    assert {name: count for name, count in flat.counters.items() if name.startswith("Flatten/")} == {
        "Flatten/in": 13,
        "Flatten/kept": 4,
        "Flatten/rejected.duplicate": 5,
        "Flatten/rejected.empty_field": 2,
        "Flatten/rejected.too_long": 1,
        "Flatten/rejected.wrong_type": 1,
    }


@pytest.mark.parametrize("max_tasks", [None, 2])
def test_the_order_of_lists_changes_nothing(flat: Ran, max_tasks: int | None) -> None:
    first = in_order((flat if max_tasks is None else flatten([*LISTS, PASSED], max_tasks)).elements)
    assert in_order(flatten(shuffled([*LISTS, PASSED]), max_tasks).elements) == first


def test_max_tasks_is_nested_and_earlier_rounds_come_first() -> None:
    lists = [make_list(*(f"Task {round_} {n}" for n in range(4)), round_=round_) for round_ in range(3)]
    before: set[str] = set()
    for limit in (1, 7, 40):
        ran = flatten(lists, limit)
        kept = {task.task for task in ran.of(Task)}
        assert len(kept) == min(limit, 12)
        assert before <= kept
        assert max(task.round for task in ran.of(Task)) == (min(limit, 12) - 1) // 4
        assert dict(tally(ran.of(Reject))) == ({"over_max_tasks": 12 - limit} if limit < 12 else {})
        assert ran.counters.get("Flatten/rejected.over_max_tasks", 0) == max(0, 12 - limit)
        assert ran.counters["Flatten/kept"] == len(kept)
        before = kept


def test_another_seed_takes_other_tasks() -> None:
    tasks = [make_task(f"Task {n}") for n in range(30)]
    taken = [{task.task for task in sorted(tasks, key=lambda task: rank(task, seed))[:10]} for seed in (1, 2)]
    assert taken[0] != taken[1]


def test_repeats_do_not_count_against_max_tasks() -> None:
    ran = flatten([make_list("One", "one", "ONE.", "Two", "two")], 2)
    assert {task.task for task in ran.of(Task)} == {"ONE.", "Two"}
    assert dict(tally(ran.of(Reject))) == {"duplicate": 3}


@pytest.mark.parametrize("max_tasks", [None, 3])
def test_nothing_in_nothing_out(max_tasks: int | None) -> None:
    with TestPipeline("FnApiRunner") as pipeline:
        empty = pipeline | beam.Create([]).with_output_types(TaskList)
        assert_that(empty | Flatten(max_tasks), equal_to([]))


# --- tasks that other labels have


@dataclasses.dataclass(eq=False)
class Publish(beam.PTransform):
    rows: list[tuple[str, str, int, int]]

    def expand(self, pipeline: beam.pvalue.PBegin) -> Any:
        return pipeline | beam.Create(self.rows).with_output_types(tuple[str, str, int, int])


def published(**labels: str) -> Publish:
    """Labels and the task that each has."""
    return Publish([(task_id(text), label, 0, 1) for label, text in labels.items()])


def test_a_task_of_another_label_is_not_repeated() -> None:
    others = published(two="sort bees by MOOD", one="Sort bees by mood", three="Nobody brings this")
    ran = run_step(Flatten(published=others), [*LISTS, PASSED], TaskList)
    assert {task.task for task in ran.of(Task)} == set(KEPT) - {"SORT BEES BY MOOD!"}
    details = {reject.raw_reply: reject.detail for reject in ran.of(Reject) if reject.task == reject.raw_reply}
    for text in ("SORT BEES BY MOOD!", "Sort bees by mood.", "sort BEES by mood"):
        assert details[text] == "refresh=one has this task"
    assert details["tell frogs from toads"] == "the same task as 'Tell frogs from toads'"
    assert len(ran.elements) == 14
    assert len({reject.id for reject in ran.of(Reject)}) == len(ran.of(Reject))
    assert ran.counters["Flatten/in"] == 13
    assert ran.counters["Flatten/kept"] == 3
    assert ran.counters["Flatten/rejected.duplicate"] == 6


def test_no_order_decides_with_other_labels() -> None:
    def ran(rows: list[tuple[str, str, int, int]], lists: list[TaskList | Reject]) -> list[str]:
        return in_order(run_step(Flatten(2, published=Publish(rows)), lists, TaskList).elements)

    rows = published(two="Sort bees by mood", one="Sort bees by mood", three="Grade eggs").rows
    assert ran(rows, [*LISTS, PASSED]) == ran(shuffled(rows), shuffled([*LISTS, PASSED], "x"))


def test_tasks_of_other_labels_do_not_count_against_max_tasks() -> None:
    ran = run_step(Flatten(2, published=published(one="One")), [make_list("One", "Two", "Three")], TaskList)
    assert {task.task for task in ran.of(Task)} == {"Two", "Three"}
    assert dict(tally(ran.of(Reject))) == {"duplicate": 1}


def test_where_other_labels_have_all_of_it_nothing_is_kept() -> None:
    for max_tasks in (None, 3):
        ran = run_step(Flatten(max_tasks, published=published(one="One")), [make_list("One", "one.")], TaskList)
        assert ran.of(Task) == []
        assert dict(tally(ran.of(Reject))) == {"duplicate": 2}
        assert ran.counters.get("Flatten/kept", 0) == 0


def test_what_only_other_labels_have_is_no_element() -> None:
    assert list(first_of([(0, "one", 1), (0, "two", 1)])) == []
    assert run_step(Flatten(published=published(one="One")), [], TaskList).elements == []


@given(
    st.lists(st.tuples(st.sampled_from(["Sort bees", "sort bees", "SORT BEES."]), st.integers(0, 2)), max_size=5),
    st.lists(st.sampled_from(["b", "a", "c"]), max_size=3),
    st.randoms(use_true_random=False),
)
def test_every_task_of_a_group_is_one_element_in_any_order(
    items: list[tuple[str, int]], labels: list[str], chance: Any
) -> None:
    holders: list[Holder] = [(0, label, 1) for label in labels]
    group: list[Task | Holder] = [*(make_task(text, round_) for text, round_ in items), *holders]
    answer = list(first_of(list(group)))
    chance.shuffle(group)
    assert list(first_of(iter(group))) == answer
    assert len(answer) == len(items)
    kept = [element for element in answer if isinstance(element, Task)]
    assert len(kept) == (1 if items and not labels else 0)
    for reject in answer[len(kept) :]:
        assert isinstance(reject, Reject)
        assert reject.reason == "duplicate"
        if labels:
            assert reject.detail == f"refresh={min(labels)} has this task"


OWN, BRAINSTORMED = task_of("Sort bees"), make_task("Sort bees")


@pytest.mark.parametrize(
    ("task", "holders", "first"),
    [
        (OWN, [], 0),
        (OWN, [(0, "me", 10)], 0),
        (OWN, [(0, "mon", 10)], 10),
        (OWN, [(0, "mon", 10), (10, "tue", 15)], 15),
        # what a refresh has published it keeps, whatever others have since
        (OWN, [(0, "me", 10), (10, "mon", 20)], 0),
        (OWN, [(0, "me", 10), (10, "mon", 20), (20, "a", 30)], 0),
        (OWN, [(10, "me", 20), (0, "mon", 30)], 10),
        (OWN, [(10, "me", 20), (10, "a", 20), (0, "mon", 30)], 10),
        (OWN, [(10, "me", 20)], 10),  # whoever had it first has it no more
        (OWN, [(10, "tue", 20)], 0),
        # published at the same moment: the first by label stands, the other one goes on where the numbers end
        (OWN, [(0, "me", 10), (0, "z", 10)], 0),
        (OWN, [(0, "me", 10), (0, "a", 12)], 12),
        (replace(OWN, settings=TaskSettings(examples=15)), [(0, "mon", 10)], 15),
        (BRAINSTORMED, [], 0),
        (BRAINSTORMED, [(0, "mon", 10)], None),
        (BRAINSTORMED, [(10, "mon", 20)], None),
        (BRAINSTORMED, [(0, "me", 10), (10, "a", 20)], 0),
        (BRAINSTORMED, [(0, "me", 10), (0, "z", 10)], 0),
        (BRAINSTORMED, [(0, "me", 10), (0, "a", 10)], None),
        (BRAINSTORMED, [(10, "me", 20)], 10),
    ],
)
def test_where_the_examples_of_a_task_go_on(task: Task, holders: list[Holder], first: int | None) -> None:
    assert Numbering("me", 10).first_replica(task, holders) == first
    kept = [found for found in first_of([*holders, task], Numbering("me", 10)) if isinstance(found, Task)]
    assert [found.first_replica for found in kept] == ([] if first is None else [first])


def test_beside_another_refresh_a_task_of_the_users_own_has_no_plain_numbers() -> None:
    """What that one is about to publish is not known yet."""
    beside = Numbering("me", 10, is_alone=False)
    assert beside.first_replica(OWN, []) == 10
    assert beside.first_replica(OWN, [(0, "mon", 12)]) == 12
    assert beside.first_replica(OWN, [(0, "me", 10)]) == 0  # published before
    assert beside.first_replica(BRAINSTORMED, []) == 0


LABELS = ["a", "b", "c"]


@given(st.dictionaries(st.sampled_from(LABELS), st.sampled_from([0, 0, 5]), min_size=1), st.booleans())
def test_of_all_that_have_a_task_one_has_it_still_when_they_run_at_once(holders: dict[str, int], own: bool) -> None:
    """They see what each had before, and none sees what another does now."""
    task = OWN if own else BRAINSTORMED
    published: list[Holder] = [(first, label, first + 5) for label, first in holders.items()]
    again = {label: Numbering(label, 5).first_replica(task, published) for label in holders}
    if own:
        assert None not in again.values()
        assert sum(first == 0 for first in again.values()) == (0 in holders.values())
        assert {label for label, first in holders.items() if first} <= {
            label for label, first in holders.items() if again[label] == first
        }
    else:
        assert sum(first is not None for first in again.values()) == 1
    settled: list[Holder] = [(first, label, first + 5) for label, first in again.items() if first is not None]
    for label, first in again.items():  # and nothing moves any more
        assert Numbering(label, 5).first_replica(task, settled) == first


Run = tuple[frozenset[str], int, int]  # tasks of the user's own, examples of each, seed
Made = dict[str, tuple[int, int, set[str]]]  # by task_id: the number of its first example, the one after its last, ids
RUNS = st.tuples(
    st.frozensets(st.sampled_from(["Sort bees", "Sort mail", "Sort rain"]), min_size=1),
    st.integers(1, 4),
    st.sampled_from([42, 42, 7]),
)
ACTIONS = st.tuples(st.sampled_from(["begin", "run", "kill", "publish"]), st.sampled_from(LABELS), RUNS)


def made_by(run: Run, label: str, published: dict[str, Made], is_alone: bool) -> Made:
    made: Made = {}
    texts, count, seed = run
    for task in map(task_of, texts):
        holders = [(*had[task.task_id][:2], other) for other, had in published.items() if task.task_id in had]
        numbering = Numbering(label, count, is_alone)
        first = numbering.first_replica(task, [(begin, other, end) for begin, end, other in holders])
        assert first is not None
        numbered = replace(task, first_replica=first)
        made[task.task_id] = first, first + count, {draft_id_of(numbered, place, seed, label) for place in range(count)}
    return made


@given(st.lists(ACTIONS, max_size=12))
def test_no_two_refreshes_ever_have_examples_of_one_id(actions: list[tuple[str, str, Run]]) -> None:
    """Whatever runs begin, are killed, begin again with more or less, and publish, one beside the other."""
    published: dict[str, Made] = {}
    under_way: dict[str, tuple[Run, Made]] = {}
    yielding: set[str] = set()  # labels whose runs have written down that they leave plain ids to others
    for action, label, run in actions:
        if action in ("begin", "run"):
            under_way.pop(label, None)
            if under_way.keys() - yielding:
                yielding.add(label)
            under_way[label] = run, made_by(run, label, published, label not in yielding)
        if action == "kill":
            under_way.pop(label, None)
        if action in ("run", "publish") and label in under_way:
            run, published[label] = under_way.pop(label)
            yielding.discard(label)
            for is_alone in (True, False):  # the same run once more
                assert made_by(run, label, published, is_alone) == published[label]
        ids = [id_ for made in published.values() for *_, of_task in made.values() for id_ in of_task]
        assert len(ids) == len(set(ids))


TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["Sort bees", "sort bees.", "SORT  BEES", "Sort \ufb01sh", "sort fish", "\ud800", "", "\u3000"]),
)


@given(st.lists(TEXTS, max_size=12))
def test_an_item_becomes_one_task_or_one_reject(items: list[str]) -> None:
    found = list(split_list(make_list(*items)))
    assert len(found) == len(items)
    for element in found:
        if isinstance(element, Task):
            assert element.task.strip() == element.task != ""
            element.task.encode()
        else:
            assert element.reason in REASONS
            element.raw_reply.encode()
    ids = [element.id for element in found if isinstance(element, Reject)]
    assert len(set(ids)) == len(ids)


@given(st.lists(st.tuples(st.sampled_from(["Sort bees", "sort bees", "SORT BEES.", "Sort Bees!"]), st.integers(0, 3))))
def test_the_winner_does_not_depend_on_the_order(items: list[tuple[str, int]]) -> None:
    tasks = [make_task(text, round_) for text, round_ in items]
    if not tasks:
        return
    expected = min(tasks, key=lambda task: (task.round, task.task))
    answers = [list(first_of(order)) for order in itertools.islice(itertools.permutations(tasks), 24)]
    for answer in answers:
        assert answer[0] == expected
        assert answer == answers[0]
        assert [element.reason for element in answer[1:]] == ["duplicate"] * (len(tasks) - 1)


@given(st.permutations(LISTS), st.integers(1, 9))
def test_a_later_round_never_changes_a_task_that_is_there(lists: list[TaskList], later: int) -> None:
    def kept(several: Sequence[TaskList]) -> dict[str, Task]:
        groups: dict[str, list[Task]] = {}
        for task in itertools.chain.from_iterable(map(split_list, several)):
            if isinstance(task, Task):
                groups.setdefault(task.task_id, []).append(task)
        return {key: next(iter(first_of(group))) for key, group in groups.items()}  # type: ignore[misc]

    more = make_list("A sort", "SORT BEES BY MOOD", "grade EGGS", round_=3 + later)
    assert kept(lists).items() <= kept([more, *lists]).items()
