"""BuildPrompt: the exact text that is sent."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.build_prompt import BuildPrompt, example_prompt
from textmint.transforms.core.elements import Draft, Prompt, Reject
from textmint.transforms.core.prompt_template import EXAMPLE_VARIABLES

from tests.support.helpers import TEMPLATE, make_draft, make_reject, run_step, shipped_template

HOSTILE = (
    "{{ 7*7 }}",
    "{% for x in range(9) %}x{% endfor %}",
    "{# gone? #}",
    "{{ task.__class__.__mro__ }}",
    '"}, {"label": "x"}',
    "a\\nb \\u0041 <b>&amp;</b>",
    "\u202eright to left\u202c \u0634\u0643\u0631\u0627 \U0001f600",
)


def test_the_template_is_filled() -> None:
    prompt = example_prompt(make_draft("Sort bees"), TEMPLATE)
    assert prompt.text == "Sort bees | English | college | clear | at least 10"
    assert (prompt.kind, prompt.template) == ("example", TEMPLATE.name)
    assert prompt.subject == make_draft("Sort bees")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_task_is_text_and_never_a_template(text: str) -> None:
    assert example_prompt(make_draft(text), TEMPLATE).text.startswith(f"{text} | English")
    shipped = example_prompt(make_draft(text), shipped_template("classify")).text
    assert f"\n> {text}\n" in shipped


@given(st.text(max_size=60))
def test_any_task_comes_through_literally(text: str) -> None:
    assert example_prompt(make_draft(text), TEMPLATE).text == f"{text} | English | college | clear | at least 10"


def test_the_shipped_template_names_every_attribute() -> None:
    template = shipped_template("classify")
    template.check(EXAMPLE_VARIABLES)
    text = example_prompt(make_draft(), template).text
    for value in ("must have at least 10 words", "in English", "must be clear", "demand college level"):
        assert value in text


def test_the_step_passes_rejects_and_counts() -> None:
    drafts, reject = [make_draft("Sort bees", n) for n in range(4)], make_reject()
    ran = run_step(BuildPrompt(TEMPLATE), [*drafts, reject], Draft)
    assert sorted(prompt.prompt_id for prompt in ran.of(Prompt)) == sorted(draft.draft_id for draft in drafts)
    assert ran.of(Reject) == [reject]
    assert ran.counters == {"BuildPrompt/in": 4, "BuildPrompt/kept": 4}


def test_only_rejects_is_no_trouble() -> None:
    reject = make_reject()
    with TestPipeline("FnApiRunner") as pipeline:
        drafts = pipeline | beam.Create([reject]).with_output_types(Reject)
        assert_that(drafts | BuildPrompt(TEMPLATE), equal_to([reject]))
