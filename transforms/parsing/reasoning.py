"""Reasoning: where in a reply the model thinks aloud, and where its answer begins.

What stands before the last mark that closes a reasoning is a draft. Where a chat template opens the reasoning, only the
closing mark comes. A mark inside a string of a JSON value marks nothing. The marks are those that the parsers of vLLM,
SGLang and llama.cpp know in 2026: tags (DeepSeek, Qwen, EXAONE, Seed), `[THINK]` (Magistral), the triangles of Kimi,
the tokens of Cohere, OpenThinker, MedGemma, Gemini, s1 and Pangu, the channels of gpt-oss
(https://cookbook.openai.com/articles/openai-harmony) and of Gemma 4, and the phrases of Granite and Apriel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from textmint.transforms.core.elements import FinishReason


class Value(NamedTuple):
    """A JSON value in a text."""

    start: int
    end: int
    is_whole: bool  # False: the text ends inside it
    is_sure: bool = True  # False: its quotation marks are not escaped, and may have drawn an answer into a string


class Answer(NamedTuple):
    """The part of a reply that answers."""

    start: int
    end: int
    has_reasoning: bool  # whether a reasoning was taken away


class _Mark(NamedTuple):
    start: int
    end: int
    kind: Literal["open", "close", "answer"]  # `answer`: opens an answer, whatever stood before it


_THOUGHT: Final = r"(?:think|thought|reason|reflect|scratch[_-]?pad|monolog|analysis|deliberat|ponder|chain[_-]of[_-])"
_ANSWER: Final = r"(?:answer|response|solution|output|result)"
_TOKEN: Final = re.compile(
    r"(?=[<◁\[])"  # which is what makes the search fast
    r"(?:<\|(?:im_)?(?:start|begin)\|>\s?assistant\s?(?=<))?(?:"  # whose turn it is
    # <think>, </seed:think>, <|START_THINKING|>, <|end_of_thought|>, ◁think▷
    rf"[<◁][|｜]?\s?(?P<slash>/?)[|｜]?(?P<tag>[\w:.▁-]{{0,24}}?{_THOUGHT}[\w:.▁-]{{0,24}})(?:\s[^<>]{{0,80}})?[|｜]?[>▷]"
    r"|(?P<bracket>\[/?(?-i:THINK|THINKING|THOUGHTS?|REASONING|REFLECTION|ANALYSIS|SCRATCHPAD)\])"
    r"|(?P<other_case>\[/(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)\])"
    # the channels of gpt-oss and of Gemma 4
    r"|(?P<open><unused94>|<ctrl94>|<\|im_start\|>\s?think(?:ing)?\b|\[unused16\]|<\|inner_prefix\|>|<\|channel\|?>(?!\s*final\b))"
    r"|(?P<close><unused95>|<ctrl95>|<\|im_start\|>\s?answer\b|\[unused17\]|<\|inner_suffix\|>|<channel\|>|<\|start\|>\s?assistant\s?<\|message\|>"
    r"|<\|channel\|?>\s*final\b(?:[^<{\[\n]{0,60}(?:<\|constrain\|>[^<{\[\n]{0,40}){0,2}<\|message\|>"
    r"|\s?(?:<\|constrain\|>\w*\s?){0,2})|\[BEGIN FINAL RESPONSE\]|<\|content\|>"
    rf"|<\|(?:begin|start)_(?:of_)?(?:final_)?(?:{_ANSWER}|box)\|>|<\|(?:final_)?{_ANSWER}_(?:start|begin)\|>)"
    rf"|(?P<answer><(?:final[_ -]?{_ANSWER}?|{_ANSWER})>))",
    re.IGNORECASE,
)
_PHRASE: Final = re.compile(
    # gpt-oss, where a server dropped its special tokens, has `analysis` and `assistantfinal` in the place of channels
    r"(?P<open>^[ \t*#]*here(?:['’]s| is) my thought process:|^[ \t*#]*here are my reasoning steps:"
    r"|(?-i:\Aanalysis(?=[A-Z{\[\"'])))"
    r"|(?P<close>^[ \t*#]*here(?:['’]s| is) my (?:final )?(?:response|answer):\**"
    r"|(?-i:assistantfinal)(?:\s?json\b)?|(?-i:assistant\s{1,2}final)(?=\s*[\[{`\"'*\d-]|(?-i:[A-Z])))",
    re.IGNORECASE | re.MULTILINE,
)
_TOKEN_HINTS: Final = ("<", "◁", "[/", "[THINK", "[REAS", "[SCRATCH", "[REFLECT", "[ANALYSIS", "[unused", "[BEGIN")
_PHRASE_HINTS: Final = ("assistant", "thought process:", "reasoning steps:", "my response:", "my answer:", "my final ")
_ENDS: Final = re.compile(r"(?:^|[_:.▁-])(?:end|stop|close)|(?:end|stop|close|suffix)$", re.IGNORECASE)
_END_TOKEN: Final = re.compile(
    r"<[|｜]?/?(?:return|end|call|eos|turn|s|im_end|eot_id|eom_id|end_?of_?turn(?:_token)?|final"
    rf"|end[_▁]?(?:of[_▁]?)?(?:text|sentence|box|(?:final_)?{_ANSWER})|(?:final_)?{_ANSWER}(?:_end)?)[|｜]?>"
    r"|\[END FINAL RESPONSE\]",
    re.IGNORECASE,
)
_BRACKET: Final = re.compile(r"[{\[]")


def find_answer(text: str, finish_reason: FinishReason, values: Callable[[int], Sequence[Value]]) -> Answer | None:
    """Finds the answer of a reply beside its reasoning; None where the reply ends inside the reasoning.

    `values` lists the JSON values in the text from a position on; it is called only where marks may stand in one.
    """
    marks = _marks(text)
    if not marks:
        return Answer(0, len(text), False)
    start, end, has_reasoning = 0, len(text), False
    index = 0
    while index < len(marks) and marks[index].kind == "open" and not text[start : marks[index].start].strip():
        # Opened before anything else, so that the next closing mark closes it, whatever brackets the model thought of.
        closing = next((place for place in range(index + 1, len(marks)) if marks[place].kind == "close"), None)
        if closing is None and finish_reason == "stop" and marks[-1].kind == "answer":
            closing = len(marks) - 1
        if closing is None:
            return None
        start, has_reasoning = marks[closing].end, True
        index = closing + 1
    if index < len(marks):
        found = values(start)
        rest = list(_outside(marks[index:], found, text))
        last = max((place for place, mark in enumerate(rest) if mark.kind != "open"), default=None)
        if last is not None:
            has_reasoning = has_reasoning or any(mark.kind != "answer" for mark in rest[: last + 1])
            start = rest[last].end
            rest = rest[last + 1 :]
        if rest:
            end = rest[0].start
            if not any(value.is_whole and start <= value.start and value.end <= end for value in found):
                return None
    return Answer(start, end, has_reasoning)


def drop_end_tokens(text: str) -> str:
    """Removes the tokens and tags at the end of a reply that end a turn or an answer."""
    for _ in range(8):  # one after the other
        stripped = text.rstrip()
        if not stripped.endswith((">", "]")):
            break
        token = max(stripped.rfind("<"), stripped.rfind("[END"))
        if token < 0 or not _END_TOKEN.fullmatch(stripped, token):
            break
        text = stripped[:token]
    return text


def has_only_marks(text: str) -> bool:
    """Tells whether nothing stands in a text but marks of a reasoning and tokens that end a turn."""
    return len(text) < 200 and not _END_TOKEN.sub("", _TOKEN.sub("", text)).strip()


def _marks(text: str) -> list[_Mark]:
    """Lists all that has the form of a mark, in order."""
    marks = []
    if any(hint in text for hint in _TOKEN_HINTS):
        for match in _TOKEN.finditer(text):
            kind: Literal["open", "close", "answer"]
            if match["tag"]:
                kind = "close" if match["slash"] or _ENDS.search(match["tag"]) else "open"
            elif match["bracket"]:
                kind = "close" if match["bracket"][1] == "/" else "open"
            else:
                kind = "open" if match["open"] else "answer" if match["answer"] else "close"
            marks.append(_Mark(*match.span(), kind))
    if text.startswith("analysis") or any(hint in text for hint in _PHRASE_HINTS):
        marks += [_Mark(*match.span(), "open" if match["open"] else "close") for match in _PHRASE.finditer(text)]
        marks.sort()
    return marks


def _outside(marks: Sequence[_Mark], values: Sequence[Value], text: str) -> Iterator[_Mark]:
    """Lists the marks outside values; in a value that is not sure, the answer may follow a mark before a bracket."""
    waiting = iter(values)
    value = next(waiting, None)
    for mark in marks:
        while value is not None and value.end <= mark.start:
            value = next(waiting, None)
        if value is None or mark.start < value.start:
            yield mark
            continue
        if not value.is_sure and _BRACKET.search(text, mark.end, value.end):
            yield mark
