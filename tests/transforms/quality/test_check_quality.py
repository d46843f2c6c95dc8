"""CheckQuality: good examples leave it as they came, bad ones as rejects that say why."""

from __future__ import annotations

import json
import pickle

from textmint.transforms.core.elements import Example, Reject
from textmint.transforms.quality.check_quality import CheckQuality, check_example
from textmint.transforms.quality.checks import Checks

from tests.support.helpers import make_example, make_reject, run_step, shuffled, tally

GOOD = make_example("Sort bees", 0, num_words="any", input_text="They came back at noon, heavy with pollen.")
BAD = {
    "placeholder": make_example("Sort bees", 1, num_words="any", input_text="[input_text]"),
    "labels_equal": make_example("Sort bees", 2, num_words="any", label="Drone", misleading_label="drone."),
    "label_in_text": make_example("Sort bees", 3, num_words="any", input_text="A drone sat there.", label="drone"),
    "wrong_length": make_example("Sort bees", 4, num_words="at least 50", input_text="They came back at noon."),
}


def test_the_step_and_its_counters() -> None:
    passing = make_reject("Another task", reason="not_json")
    ran = run_step(CheckQuality(), shuffled([GOOD, passing, *BAD.values()]), Example)
    assert ran.of(Example) == [GOOD]
    rejects = [reject for reject in ran.of(Reject) if reject != passing]
    assert {reject.id: reject.reason for reject in rejects} == {bad.id: reason for reason, bad in BAD.items()}
    assert len(ran.elements) == len(BAD) + 2
    assert ran.counters == {
        "CheckQuality/in": 5,
        "CheckQuality/kept": 1,
        **{f"CheckQuality/rejected.{reason}": 1 for reason in BAD},
    }


def test_checks_can_be_left_out() -> None:
    checks = Checks().without("placeholder", "wrong_length")
    ran = run_step(CheckQuality(checks), [GOOD, *BAD.values()], Example)
    assert dict(tally(ran.of(Reject))) == {"labels_equal": 1, "label_in_text": 1}


def test_a_reject_explains_itself() -> None:
    bad = BAD["label_in_text"]
    reject = check_example(bad, Checks())
    assert isinstance(reject, Reject)
    assert (reject.id, reject.stage, reject.reason) == (bad.id, "CheckQuality", "label_in_text")
    assert reject.detail == "the label 'drone' stands in the text"
    assert reject.can_retry
    assert json.loads(reject.raw_reply) == {
        "input_text": "A drone sat there.",
        "label": "drone",
        "misleading_label": "wrong",
    }
    told = {*Reject.__struct_fields__} & {*Example.__struct_fields__}
    assert {"task_id", "task", "language", "prompt", "model", "output_tokens", "seed"} <= told
    for name in told - {"raw_reply"}:
        assert getattr(reject, name) == getattr(bad, name)
    assert (reject.topic, reject.attempts, reject.usage) == (None, None, None)


def test_the_reply_is_kept_as_it_came_where_there_is_one() -> None:
    bad = make_example("Sort bees", 1, num_words="any", input_text="...", raw_reply='```{"input_text": "..."}```')
    reject = check_example(bad, Checks())
    assert isinstance(reject, Reject)
    assert reject.raw_reply == bad.raw_reply


def test_the_step_pickles() -> None:
    step = pickle.loads(pickle.dumps(CheckQuality(Checks(names=("echo",), length_slack=3.0))))
    assert step.checks == Checks(names=("echo",), length_slack=3.0)
