"""SampleAttributes: drafts that depend on nothing but their task, their replica and the seed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.attributes import CLARITIES, DIFFICULTIES, NUM_WORDS
from textmint.transforms.core.elements import Draft, Reject, Task
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.tasks import task_of
from textmint.transforms.sample_attributes import SampleAttributes, drafts_of

from tests.support.helpers import attributes, make_reject, make_task, run_step, shuffled

TASKS = [make_task(f"Sort things of kind {n}") for n in range(6)]


def drafts(task: Task, count: int, seed: int = 42, **chosen: str) -> list[Draft]:
    return list(drafts_of(task, examples_per_task=count, attributes=attributes(**chosen), seed=seed))


def test_golden_draft() -> None:
    assert drafts(make_task("Classify a customer e-mail by the department that should answer it"), 1) == [GOLDEN]


@given(st.text(min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 6), st.integers(-(2**63), 2**63 - 1))
def test_more_examples_leave_the_first_as_they_were(text: str, count: int, more: int, seed: int) -> None:
    task = make_task(text)
    first = drafts(task, count, seed)
    assert drafts(task, count + more, seed)[:count] == first
    assert [draft.replica for draft in first] == list(range(count))
    assert len({draft.draft_id for draft in drafts(task, count + more, seed)}) == count + more


def test_a_task_that_another_refresh_had_first_has_drafts_of_its_own_in_each() -> None:
    """Golden, like the plain ids: those that are paid for stand under them."""
    task = task_of("Sort bees by mood")
    known = replace(task, first_replica=10)
    plain = drafts(task, 30)

    def of(label: str, task: Task = known, count: int = 3) -> list[Draft]:
        return list(drafts_of(task, examples_per_task=count, attributes=attributes(), refresh=label))

    assert [draft.replica for draft in of("tue")] == [10, 11, 12]
    assert (
        of("tue")[0].draft_id == stable_hash("draft", task.task_id, 0, 42, "tue") == "c9f3ab2ba4fc4c05f6c6f6d871825ed0"
    )
    assert of("any label", task) == plain[:3]
    sets = [{draft.draft_id for draft in found} for found in (plain, of("tue", count=30), of("wed", count=30))]
    assert len(set.union(*sets)) == 90  # however many each comes to ask for
    # numbers that others took meanwhile change nothing of what was paid for, nor does a larger run
    later = replace(known, first_replica=20)
    assert [replace(draft, replica=draft.replica - 10) for draft in of("tue", later)] == of("tue")
    assert of("tue", count=30)[:3] == of("tue")


def test_another_seed_gives_other_drafts() -> None:
    ids = [draft.draft_id for seed in (1, 2, -1) for draft in drafts(TASKS[0], 20, seed)]
    assert len(set(ids)) == 60
    assert [draft.num_words for draft in drafts(TASKS[0], 20, 1)] != [
        draft.num_words for draft in drafts(TASKS[0], 20, 2)
    ]


def test_only_the_identity_of_the_task_counts() -> None:
    early, late = make_task("Sort bees", 0), make_task("Sort bees", 9)
    assert drafts(early, 5) == drafts(late, 5)


def test_fixing_one_attribute_leaves_the_others() -> None:
    free, fixed = drafts(TASKS[0], 50), drafts(TASKS[0], 50, clarity="clear")
    assert {draft.clarity for draft in fixed} == {"clear"}
    assert [(draft.difficulty, draft.num_words) for draft in free] == [
        (draft.difficulty, draft.num_words) for draft in fixed
    ]


def test_attributes_vary_independently() -> None:
    pairs = Counter((d.difficulty, d.clarity, d.num_words) for task in TASKS for d in drafts(task, 200))
    assert len(pairs) == len(DIFFICULTIES) * len(CLARITIES) * len(NUM_WORDS)


def test_the_step_in_any_order_with_rejects_passing() -> None:
    reject = make_reject()
    step = SampleAttributes(3, attributes(language="English,German"), 7)
    runs = [run_step(step, order, Task) for order in ([*TASKS, reject], shuffled([reject, *TASKS]))]
    expected = [draft for task in TASKS for draft in drafts(task, 3, 7, language="English,German")]
    for ran in runs:
        assert sorted(ran.of(Draft), key=repr) == sorted(expected, key=repr)
        assert ran.of(Reject) == [reject]
        assert ran.counters == {"SampleAttributes/in": 6, "SampleAttributes/kept": 18}


GOLDEN = Draft(
    draft_id="d10a30367abfeba7ee709ecdd2635eae",
    task_id="52e3b5dc9e90409c5a803f1f785cd035",
    task="Classify a customer e-mail by the department that should answer it",
    replica=0,
    seed=42,
    language="English",
    difficulty="high school",
    clarity="understandable with some effort",
    num_words="less than 10",
)
