"""The attempts at a prompt: the request of each, and which is next by what the ledger has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace
from textmint.transforms.core.attributes import ATTRIBUTES
from textmint.transforms.core.elements import Choice, Draft, LabelSetSeed, PaidReply, Prompt, Reply
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.texts import clean_name
from textmint.transforms.llm.base import Answer, Request

IsReadable = Callable[[Prompt, Answer], bool]


def request_id_of(prompt: Prompt, fingerprint: str, attempt: int) -> str:
    """Makes the identity of a request."""
    return stable_hash("request", prompt.prompt_id, prompt.text, fingerprint, attempt)


def request_for(prompt: Prompt, fingerprint: str, attempt: int = 0) -> Request:
    """Makes the request for a prompt, whose identity holds all that changes the answer. The attempt counts, from 0, how
    often the prompt is asked because the reply before could not be read."""
    request_id = request_id_of(prompt, fingerprint, attempt)
    return Request(
        request_id=request_id,
        kind=prompt.kind,
        text=prompt.text,
        seed=int(request_id[:8], 16) >> 1,
        variables=_variables(prompt),
        prompt_id=prompt.prompt_id,
        attempt=attempt,
    )


def _variables(prompt: Prompt) -> dict[str, str]:
    subject = prompt.subject
    if isinstance(subject, Draft):
        variables = {"task": subject.task, **{name: getattr(subject, name) for name in ATTRIBUTES}}
        if subject.label is not None:
            variables |= {"label": subject.label, "misleading_label": subject.misleading_label or ""}
        elif subject.labels:
            variables["labels"] = "\n".join(subject.labels)
        return variables
    if isinstance(subject, LabelSetSeed):
        return {"task": subject.task}
    if isinstance(subject, Choice):
        # the label is the truth, which the prompt does not tell
        return {"first": subject.first, "second": subject.second, "label": subject.example.label}
    return {"topic": subject.topic or ""}


def answer_fields(reply: Answer | Reply | PaidReply) -> dict[str, Any]:
    """Returns what an answer, a reply and a reply of the ledger have in common."""
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "model": reply.model,
        "prompt_tokens": reply.prompt_tokens,
        "output_tokens": reply.output_tokens,
    }


@dataclasses.dataclass(frozen=True, slots=True)
class NextStep:
    """What is to become of a prompt, by what the ledger has for it."""

    answer: Answer | None  # the reply to go on with; None: one is to be asked for
    request_id: str  # of that reply; "" where there is none
    attempt: int  # of that reply, or of the one to be asked for
    attempts: int  # how many may be asked for, those that the ledger has among them
    from_ledger: int  # replies that it has
    prompt_tokens: int = 0  # of these
    output_tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptRules:
    """Which reply to a prompt is taken, and how often it is asked; as for `LLMCall`."""

    fingerprint: str  # of the back end
    is_readable: IsReadable
    parse_attempts: int
    retry_rejects: bool = False
    is_wanted: IsReadable | None = None

    def next_step(self, prompt: Prompt, attempts: int | None = None) -> NextStep:
        """Chooses the reply to take of what the ledger has for a prompt, or the attempt to ask for.

        Replies count in the order of their attempts, up to the first that is missing. The first that is wanted is
        taken, or else the first that can be read. Where none can, the next attempt is asked for if there may be one;
        else the last reply is taken, for its reject. `attempts` is how many may be asked for, where that is settled.
        """
        if not prompt.subject.paid:
            return NextStep(None, "", 0, self.parse_attempts, 0)
        paid = {reply.request_id: reply for reply in prompt.subject.paid}
        found: list[tuple[Answer, str]] = []
        while (reply := paid.get(request_id_of(prompt, self.fingerprint, len(found)))) is not None:
            model = clean_name(reply.model)  # an older version has kept it as it came
            found.append((Answer(**answer_fields(reply) | {"model": model}), reply.request_id))
        readable = [at for at, (answer, _) in enumerate(found) if _settles(prompt, answer, self.is_readable)]
        wanted = readable
        if self.is_wanted is not None and (self.retry_rejects or len(found) > 1):
            wanted = [at for at in readable if _settles(prompt, found[at][0], self.is_wanted)]
        if not wanted and (self.retry_rejects or not readable):
            if attempts is None:
                attempts = max(self.parse_attempts, len(found))
                if len(found) == attempts and self.retry_rejects:
                    attempts += self.parse_attempts
            if len(found) < attempts:
                return NextStep(None, "", len(found), attempts, len(found), *_tokens(found))
        taken = (wanted or readable or [len(found) - 1])[0]
        return NextStep(*found[taken], taken, len(found), len(found), *_tokens(found))

    def is_enough(self, prompt: Prompt, answer: Answer) -> bool:
        """Tells whether no other reply is asked for after this one."""
        if not _settles(prompt, answer, self.is_readable):
            return False
        return not self.retry_rejects or self.is_wanted is None or _settles(prompt, answer, self.is_wanted)


def _tokens(found: Sequence[tuple[Answer, str]]) -> tuple[int, int]:
    return sum(answer.prompt_tokens for answer, _ in found), sum(answer.output_tokens for answer, _ in found)


def _settles(prompt: Prompt, answer: Answer, check: IsReadable) -> bool:
    """Tells whether there is no sense in asking again. A filter refuses the same prompt again; where it stopped a
    reply, the next one may be written otherwise."""
    return answer.finish_reason == "content_filter" or check(prompt, answer)


def with_reply(prompt: Prompt, request_id: str, answer: Answer) -> Prompt:
    """Adds a reply that has just come to a prompt, as if the ledger had had it."""
    reply = PaidReply(request_id=request_id, time=0, **answer_fields(answer))
    return replace(prompt, subject=replace(prompt.subject, paid=(*prompt.subject.paid, reply)))
