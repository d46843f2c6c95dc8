"""JoinLedger: elements come out as they went in, in groups by their id alone, each with what was paid for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace
from textmint.transforms.core.elements import Draft, PaidReply, Reject, TaskSeed, subject_id
from textmint.transforms.core.identity import shard_of
from textmint.transforms.core.packing import pack
from textmint.transforms.ledger.join import pack_table, paid_replies, read_for_join
from textmint.transforms.ledger.join_ledger import JoinLedger, id_of, join, shards_for
from textmint.transforms.ledger.table import replies_file

from tests.support import ledger_rows
from tests.support.helpers import make_draft, make_reject, make_seed, run_step, shuffled

DRAFTS = [make_draft("Sort bees", n) for n in range(200)]


def reply(key: int, text: str = "yes", time: int = 5) -> PaidReply:
    return PaidReply(
        request_id=f"{key:032x}",
        text=text,
        finish_reason="stop",
        model="m-1",
        prompt_tokens=3,
        output_tokens=2,
        time=time,
    )


def table_of(*paid: tuple[str, PaidReply]) -> pa.Table:
    rows = [ledger_rows.paid(draft_id=id_, fingerprint="f", **asdict(one)) for id_, one in paid]
    _, content = replies_file(ledger_rows.table_of(rows))
    return read_for_join(content, kind="example", fingerprint="f")


@dataclasses.dataclass(eq=False)
class Tables(beam.PTransform):
    tables: list[pa.Table]

    def expand(self, pipeline: beam.pvalue.PBegin) -> Any:
        return pipeline | beam.Create(self.tables).with_output_types(Any)


def told(elements: Iterable[Any]) -> list[tuple[str, tuple[PaidReply, ...]]]:
    """Shows each element in full, and what was paid for it, which its repr leaves out; in an order of their own."""
    return sorted((repr(element), getattr(element, "paid", ())) for element in elements)


# --- without a ledger


@pytest.mark.parametrize("shards", [1, 7, 1000])
def test_every_element_comes_out_once_and_unchanged(shards: int) -> None:
    elements = [*DRAFTS, make_reject("Other")]
    assert told(run_step(JoinLedger(shards=shards), shuffled(elements), Draft).elements) == told(elements)


def test_seeds_too() -> None:
    seeds = [make_seed(n, None if n % 2 else "bees") for n in range(9)]
    assert told(run_step(JoinLedger(), seeds, TaskSeed).elements) == told(seeds)


def test_nothing_in_nothing_out() -> None:
    assert run_step(JoinLedger(Tables([table_of((DRAFTS[0].draft_id, reply(1)))])), [], Draft).elements == []


def test_a_shard_is_evenly_filled() -> None:
    counts = [0] * 4
    for draft in (make_draft("Sort bees", n) for n in range(4_000)):
        counts[shard_of(id_of(draft), 4)] += 1
    # Binomial, 1,000 expected of 4,000: five standard deviations are 137.
    assert all(abs(count - 1_000) < 137 for count in counts)


def test_groups_hold_about_a_thousand() -> None:
    assert shards_for(0) == shards_for(10_000) == 64
    assert shards_for(1_000_000) == 1_000
    assert shards_for(10**12) == 65_536


def test_ids() -> None:
    draft, seed, reject = make_draft(), make_seed(), make_reject()
    assert [id_of(draft), id_of(seed), id_of(reject)] == [draft.draft_id, seed.seed_id, reject.id]


# --- with one


@pytest.mark.parametrize("element", [make_draft(), make_seed()])
def test_only_what_was_paid_changes(element: Draft | TaskSeed) -> None:
    paid = (reply(1), reply(2))
    changed = replace(element, paid=paid)
    assert changed != element and subject_id(changed) == subject_id(element)
    assert type(changed) is type(element)
    assert changed.paid == paid
    assert element.paid == ()
    assert replace(changed, paid=()).paid == ()


@pytest.mark.parametrize("shards", [1, 7, 1000])
def test_every_element_meets_its_replies_wherever_they_lie(shards: int) -> None:
    """Two replies to every third draft, in different tables and in any order; the ledger has others' too."""
    paid = {draft.draft_id: (reply(2 * n), reply(2 * n + 1, "no")) for n, draft in enumerate(DRAFTS) if n % 3 == 0}
    others = [(make_draft("Other", n).draft_id, reply(n)) for n in range(50)]
    rows = shuffled([*((id_, one) for id_, both in paid.items() for one in both), *others])
    tables = [table_of(*rows[part::5]) for part in range(5)]
    rejects = [make_reject("Other", n) for n in range(3)]
    ran = run_step(JoinLedger(Tables(tables), shards), shuffled([*DRAFTS, *rejects], "x"), Draft)
    assert told(ran.elements) == told(
        [*(replace(draft, paid=paid.get(draft.draft_id, ())) for draft in DRAFTS), *rejects]
    )


def test_seeds_meet_theirs() -> None:
    seeds = [make_seed(n) for n in range(3)]
    ran = run_step(JoinLedger(Tables([table_of((seeds[1].seed_id, reply(1)))])), seeds, TaskSeed)
    assert told(ran.elements) == told([seeds[0], replace(seeds[1], paid=(reply(1),)), seeds[2]])


def test_a_ledger_without_rows_is_none() -> None:
    ran = run_step(JoinLedger(Tables([table_of()])), DRAFTS[:3], Draft)
    assert told(ran.elements) == told(DRAFTS[:3])


def test_a_reject_with_the_id_of_a_draft_gets_nothing() -> None:
    """A draft that an earlier step refused was asked for by an earlier run, which had other options."""
    draft = DRAFTS[0]
    reject = replace(make_reject(), id=draft.draft_id)
    ran = run_step(JoinLedger(Tables([table_of((draft.draft_id, reply(1)))])), [reject], Reject)
    assert ran.elements == [reject]


def test_what_is_no_id_in_a_ledger_is_nobodys() -> None:
    rows = [
        ("", reply(1)),
        ("x" * 32, reply(2)),
        (DRAFTS[0].draft_id.upper(), reply(3)),
        (DRAFTS[0].draft_id, reply(4)),
    ]
    ran = run_step(JoinLedger(Tables([table_of(*rows)])), DRAFTS[:1], Draft)
    assert told(ran.elements) == told([replace(DRAFTS[0], paid=(reply(4),))])


PAID = st.lists(
    st.tuples(
        st.integers(0, 3), st.builds(reply, st.integers(0, 2), st.sampled_from(["", "a", "b"]), st.integers(0, 2))
    ),
    max_size=12,
)


@settings(max_examples=40)  # a Parquet file is written for each part
@given(PAID, st.integers(1, 3), st.randoms(use_true_random=False))
def test_of_several_replies_to_a_request_the_earliest_counts_in_any_order(
    paid: list[tuple[int, PaidReply]], parts: int, chance: Any
) -> None:
    rows = [(DRAFTS[number].draft_id, one) for number, one in paid]
    expected: dict[str, dict[str, PaidReply]] = {}
    for id_, one in sorted(rows, key=lambda row: (row[1].time, row[1].text)):
        expected.setdefault(id_, {}).setdefault(one.request_id, one)
    for _ in range(2):
        chance.shuffle(rows)
        group = [b"R" + pack_table(table_of(*rows[part::parts])) for part in range(parts)]
        group += [b"E" + pack(draft) for draft in DRAFTS[:5]]
        chance.shuffle(group)
        joined = {draft.draft_id: draft.paid for draft in join(group)}
        assert len(joined) == 5
        for draft in DRAFTS[:5]:
            found = expected.get(draft.draft_id, {})
            assert joined[draft.draft_id] == tuple(found[key] for key in sorted(found))


def test_only_what_is_wanted_becomes_an_object() -> None:
    table = table_of(*((draft.draft_id, reply(n)) for n, draft in enumerate(DRAFTS)))
    assert paid_replies([table], {DRAFTS[7].draft_id, "unknown"}) == {DRAFTS[7].draft_id: (reply(7),)}
