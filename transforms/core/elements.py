"""Elements: what flows between the steps.

A TaskSeed becomes a TaskList, then Task, Draft, Prompt, Reply and Example; any step may make a Reject instead. With
planned labels, a Task becomes a LabelSetSeed, then a LabelSet. With verification, an Example becomes a Choice.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace
from textmint.transforms.core.labels import label_id

FinishReason = Literal["stop", "length", "content_filter", "reply_filter"]
"""Why the model stopped: at its own end, at the token limit, since a filter refuses the prompt, or since a filter
refused this reply (another may pass). Older ledgers have the third word for both kinds of filter."""

FILTERED: Final[Mapping[str, str]] = {
    "content_filter": "the provider's filter withholds the answer to this prompt",
    "reply_filter": "the provider's filter stopped this reply",
}
"""The finish reasons of filters, each with its meaning."""

Kind = Literal["task_list", "label_set", "example", "planned_example", "choice"]
"""What a prompt asks for, and so which structure a back end asks of the model."""


class Element(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What flows between steps. It pickles fast, and `packing` writes it as MessagePack."""


class PaidReply(Element, frozen=True):
    """A reply that the ledger holds: paid for by an earlier run."""

    request_id: str
    text: str
    finish_reason: FinishReason
    model: str  # as served
    prompt_tokens: int
    output_tokens: int
    time: int  # milliseconds since 1970; it decides nothing but which of two replies to one request came first


class TaskSeed(Element, frozen=True):
    """One round of brainstorming, to be asked for."""

    seed_id: str  # hash(refresh label, round, seed)
    round: int  # from 0
    topic: str | None  # the field of life this round is steered to; None: the paper's bare prompt
    seed: int
    paid: tuple[PaidReply, ...] = ()  # its replies in the ledger


class Usage(Element, frozen=True):
    """What it took to get a reply, or to fail; it is counted, not written."""

    requests: int = 0  # sent, whatever came of them
    retries: int = 0  # of these, sent again because the time before failed
    asked_again: int = 0  # replies that were paid for and could not be read
    from_ledger: int = 0  # replies that had been paid for before; what follows does not count them
    prompt_tokens: int = 0  # of all replies
    output_tokens: int = 0
    latencies_ms: tuple[int, ...] = ()  # of each reply
    throttled_ms: int = 0  # the time that the limiter made the process wait, since the last report
    left_out: tuple[str, ...] = ()  # options that the endpoint refused, once for each reply without them
    throttled: int = 0  # of the requests, those that the endpoint had no room for
    ledger_prompt_tokens: int = 0  # of the replies that had been paid for before
    ledger_output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(operator.add, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))


class TaskSettings(Element, frozen=True):
    """What the user wants of one task; it takes precedence over the options, which are for all tasks."""

    labels: tuple[str, ...] = ()  # its label set, 2 or more of different normal forms; (): not given
    language: str | None = None  # of all its examples; None: as for all tasks
    examples: int | None = None  # how many are asked for; None: as for all tasks


class TaskList(Element, frozen=True):
    """Tasks as they came, not yet checked: the items of one brainstormed reply, or of a file."""

    items: tuple[str, ...]
    source: str = "file"  # or "brainstorm"
    round: int = 0  # the brainstorm round; 0 for a file
    topic: str | None = None
    settings: tuple[TaskSettings | None, ...] = ()  # of each item; (): of none
    refused: tuple[tuple[str, str, str], ...] = ()  # items that are no tasks: (reason, detail, the item as it came)
    model: str | None = None  # as served; None for a file
    template: str | None = None
    usage: Usage | None = None


class Task(Element, frozen=True):
    """One classification task, a sentence. `tasks.task_of` makes one of a text."""

    task_id: str  # hash(normalised text)
    task: str
    source: str = "file"  # or "brainstorm"
    round: int = 0
    topic: str | None = None
    model: str | None = None
    template: str | None = None
    settings: TaskSettings | None = None
    first_replica: int = 0  # above 0 where other refreshes had the task before, see `flatten.Numbering`


class Draft(Element, frozen=True):
    """One example to be written: a task and the attributes chosen for it."""

    draft_id: str  # see `sample_attributes.draft_id_of`; becomes the id of the example
    task_id: str
    task: str
    replica: int  # its number, from first_replica of the task
    seed: int
    language: str
    difficulty: str
    clarity: str
    num_words: str
    label: str | None = None  # the label that its text is to have; None: the model chooses both
    misleading_label: str | None = None
    labels: tuple[str, ...] = ()  # all of the task's, where they are planned, or the user's
    paid: tuple[PaidReply, ...] = ()  # its replies in the ledger
    bucket: int = 0  # its rank where there is an `Admission`


class LabelSetSeed(Element, frozen=True):
    """The label set of one task, to be asked for."""

    label_set_id: str  # hash(task_id, seed)
    task_id: str
    task: str
    topic: str | None
    seed: int
    settings: TaskSettings | None = None
    first_replica: int = 0  # of the task
    paid: tuple[PaidReply, ...] = ()  # its replies in the ledger


class Choice(Element, frozen=True):
    """An example whose label is to be verified: a choice between its two labels, in an order picked by hash."""

    choice_id: str  # hash(id of the example)
    example: Example
    first: str
    second: str
    seed: int
    paid: tuple[PaidReply, ...] = ()  # its replies in the ledger


Subject = TaskSeed | LabelSetSeed | Draft | Choice
"""What a prompt can be sent for."""

_SUBJECT_IDS: Final[Mapping[type, Any]] = {
    TaskSeed: operator.attrgetter("seed_id"),
    LabelSetSeed: operator.attrgetter("label_set_id"),
    Draft: operator.attrgetter("draft_id"),
    Choice: operator.attrgetter("choice_id"),
}


def subject_id(subject: Subject) -> str:
    """Returns the id by which the ledger knows what was paid for a subject."""
    return _SUBJECT_IDS[type(subject)](subject)  # type: ignore[no-any-return]


class Prompt(Element, frozen=True):
    """The exact text that is sent, and its subject: what it is sent for."""

    kind: Kind
    subject: Subject
    text: str
    template: str  # name@digest

    @property
    def prompt_id(self) -> str:
        """The id of the subject."""
        return subject_id(self.subject)


class Reply(Element, frozen=True):
    """What the model answered to a prompt."""

    prompt: Prompt
    request_id: str
    text: str
    finish_reason: FinishReason
    model: str  # as served
    prompt_tokens: int
    output_tokens: int
    usage: Usage
    attempts: int = 1  # which reply to its prompt it is


class Example(Element, frozen=True):
    """One row of the dataset. The columns are described in `schema.EXAMPLES`."""

    id: str
    task_id: str
    task: str
    input_text: str
    label: str
    misleading_label: str
    language: str
    difficulty: str
    clarity: str
    num_words: str
    replica: int
    prompt: str
    template: str
    model: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    raw_reply: str
    seed: int
    repairs: tuple[str, ...] = ()  # what the parser had to mend; counted, not written
    verified: Usage | None = None  # what it took to verify its label; counted, not written
    bucket: int = 0  # of its draft

    @property
    def label_id(self) -> str:
        """The id of its label within the task, whatever the spelling."""
        return label_id(self.task_id, self.label)

    @property
    def misleading_label_id(self) -> str:
        """The id of its misleading label within the task."""
        return label_id(self.task_id, self.misleading_label)


class LabelSet(Element, frozen=True):
    """The labels of one task. The columns are described in `schema.LABEL_SETS`."""

    task_id: str
    task: str
    labels: tuple[str, ...]  # 2 or more, no two of the same normal form, in the order of the reply or of the user
    label_ids: tuple[str, ...]  # of each label, see `labels.label_id`
    model: str  # "" of the user's own
    template: str  # the same
    prompt_tokens: int
    output_tokens: int
    seed: int
    settings: TaskSettings | None = None
    first_replica: int = 0  # of the task; it stands among the tasks
    usage: Usage | None = None  # counted, not written


class Verdict(Element, frozen=True):
    """One example that a comparison of examples refuses."""

    id: str
    stage: str  # the step
    reason: str  # one of REASONS
    detail: str  # one short line for a person


class Relabel(Element, frozen=True):
    """One example that is to have its labels in these spellings, the most frequent ones of its task."""

    id: str
    label: str
    misleading_label: str


class Reject(Element, frozen=True):
    """An element that a step refused, and why. Fields that are None were not known at that step."""

    id: str
    stage: str  # the step that refused
    reason: str  # one of REASONS
    detail: str  # one short line for a person
    can_retry: bool  # whether the same request, sent again, has a chance
    raw_reply: str  # what was refused, as it came
    task_id: str | None = None
    task: str | None = None
    topic: str | None = None
    language: str | None = None
    difficulty: str | None = None
    clarity: str | None = None
    num_words: str | None = None
    replica: int | None = None
    prompt: str | None = None
    template: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    seed: int | None = None
    attempts: int | None = None  # replies that came for it, and the tries of the request that got none
    usage: Usage | None = None

    @classmethod
    def of_task(cls, task: Task, *, id: str, stage: str, reason: str, detail: str, raw: str) -> Reject:
        """Refuses a task, or an item that cannot be one."""
        return cls(
            id=id,
            stage=stage,
            reason=reason,
            detail=detail,
            can_retry=False,
            raw_reply=raw,
            task_id=task.task_id or None,
            task=task.task or None,
            topic=task.topic,
            template=task.template,
            model=task.model,
        )

    @classmethod
    def of_prompt(
        cls,
        prompt: Prompt,
        *,
        stage: str,
        reason: str,
        detail: str,
        can_retry: bool,
        raw: str,
        attempts: int,
        usage: Usage,
    ) -> Reject:
        """Refuses a prompt that was not answered. Of a label set the task is refused, of a choice the example."""
        subject = prompt.subject
        source: Subject | Example = subject
        id_ = subject_id(subject)
        if isinstance(subject, Choice):
            source, id_ = subject.example, subject.example.id
        elif isinstance(subject, LabelSetSeed):
            id_ = subject.task_id
        return cls(
            id=id_,
            stage=stage,
            reason=reason,
            detail=detail,
            can_retry=can_retry,
            raw_reply=raw,
            prompt=prompt.text,
            template=prompt.template,
            seed=subject.seed,
            attempts=attempts,
            usage=usage,
            **{name: getattr(source, name) for name in _KNOWN_OF_SUBJECTS if hasattr(source, name)},
        )

    @classmethod
    def of_template(cls, subject: Subject, *, stage: str, template: str, detail: str) -> Reject:
        """Refuses a subject for which the template cannot be filled."""
        reject = cls.of_prompt(
            Prompt(kind="example", subject=subject, text="", template=template),  # its kind does not matter here
            stage=stage,
            reason="template_failed",
            detail=f"{template}: {detail}",
            can_retry=False,
            raw="",
            attempts=0,
            usage=Usage(),
        )
        return replace(reject, prompt=None)

    @classmethod
    def of_reply(cls, reply: Reply, *, stage: str, reason: str, detail: str) -> Reject:
        """Refuses a reply that cannot be read. A second reply may be better, unless a filter refuses the prompt."""
        return replace(
            cls.of_prompt(
                reply.prompt,
                stage=stage,
                reason=reason,
                detail=detail,
                can_retry=reason != "blocked" or reply.finish_reason == "reply_filter",
                raw=reply.text,
                attempts=reply.attempts,
                usage=reply.usage,
            ),
            model=reply.model,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            output_tokens=reply.output_tokens,
        )

    @classmethod
    def of_example(cls, example: Example, *, stage: str, reason: str, detail: str, can_retry: bool) -> Reject:
        """Refuses an example. Where the reply was not kept, `raw_reply` holds the fields that were read, as JSON."""
        fields = ("input_text", "label", "misleading_label")
        read = json.dumps({name: getattr(example, name) for name in fields}, ensure_ascii=False)
        return cls(
            id=example.id,
            stage=stage,
            reason=reason,
            detail=detail,
            can_retry=can_retry,
            raw_reply=example.raw_reply or read,
            **{name: getattr(example, name) for name in _SHARED},
        )


_SHARED: Final = ({*Reject.__struct_fields__} & {*Example.__struct_fields__}) - {"id", "raw_reply"}
_KNOWN_OF_SUBJECTS: Final = ("task_id", "task", "topic", "language", "difficulty", "clarity", "num_words", "replica")

HELD_BACK: Final = "held_back"
"""The reason of what a cap did not let be asked. It is none of REASONS: nothing was refused, so it is counted, and is
no row of the rejects."""

REASONS: Final[Mapping[str, str]] = {
    # ParseJSON, and the list parser of TaskGenerate
    "empty": "the reply holds no text",
    "blocked": "the provider's filter withheld the reply",
    "truncated": "the reply ends before its structure does",
    "not_json": "no JSON can be found in the reply, even after repair",
    "wrong_shape": "JSON, but not the structure asked for",
    "missing_field": "a field that was asked for is absent",
    "wrong_type": "a field, or an item of a list, is not a string",
    "empty_field": "a field, or an item of a list, is blank",
    "unknown_label": "the label, or the misleading label, is none of those that the user gives the task",
    # Flatten
    "too_long": "the task is longer than a task may be",
    "duplicate": "the task or the text was there already, in this or another spelling",
    "over_max_tasks": "the task lies beyond --max_tasks, or beyond those that --target_examples needs",
    # FindNearDuplicates
    "near_duplicate": "the text, or the task, is a near copy of another",
    "contaminated": "the text is a text of --exclude, or a near copy of one",
    # SelectExamples
    "over_target": "the example passed, and is more than --target_examples asks for",
    # PlanLabels
    "too_few_labels": "the reply names less than two labels that differ and are no longer than a label may be",
    # whatever builds a prompt
    "template_failed": "the template cannot be filled for it",
    # LLMCall
    "request_failed": "the endpoint gave no reply, whatever was tried",
    # CheckQuality: each is also the name of the check that found it
    "placeholder": "the text is empty, or stands in the place of one: [input_text], N/A, lorem ipsum",
    "echo": "the text repeats the task, or a part of the prompt",
    "labels_equal": "the label and the misleading label differ in case, spacing or punctuation at most",
    "label_too_long": "a label is too long to be one",
    "label_in_text": "the label or the misleading label stands in the text",
    "wrong_length": "the text is far shorter or longer than asked for",
    "wrong_language": "the text is in another language than asked for",
    # VerifyLabels
    "label_disputed": "asked which of the two labels fits the text better, a model did not name the label",
}
"""The closed set of reasons, each with its meaning. A Reject with another reason fails the run."""
