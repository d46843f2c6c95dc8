"""Quality: checks that refuse rows which are surely bad. A check's name is also the reason of its rejects."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from textmint.transforms.core.elements import Example
from textmint.transforms.core.labels import normal_form
from textmint.transforms.core.languages import NAMES, UnknownLanguage
from textmint.transforms.core.texts import columns_of
from textmint.transforms.core.words import count_words, fold, holds, is_telling, is_unspaced, spaced
from textmint.transforms.quality.common_words import common_words
from textmint.transforms.quality.language_id import MIN_BYTES, MIN_CONFIDENCE, check_language

CHECKS: Final = (
    "placeholder",
    "echo",
    "labels_equal",
    "label_too_long",
    "label_in_text",
    "wrong_length",
    "wrong_language",
)
"""The checks in order; the first that fails gives the reason, the slowest comes last."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Which checks are made, and their thresholds.

    Args:
      names: of CHECKS.
      length_slack: a text is refused when it is this many times shorter, or longer, than `num_words` asks for. 2, since
        models count badly; at half of "at least 100" it is no longer than the next lower value asks for.
      max_label_columns: of a label, East Asian wide characters counting two. 100 is some 16 English words: an outcome
        in a clause fits, an explanation does not.
      language_min_bytes: see `language_id.MIN_BYTES`.
      language_min_confidence: see `language_id.MIN_CONFIDENCE`.
    """

    names: tuple[str, ...] = CHECKS
    length_slack: float = 2.0
    max_label_columns: int = 100
    language_min_bytes: int = MIN_BYTES
    language_min_confidence: float = MIN_CONFIDENCE

    def __post_init__(self) -> None:
        if unknown := [name for name in self.names if name not in CHECKS]:
            raise ValueError(f"unknown check {unknown[0]!r}; known are {', '.join(CHECKS)}")
        if not self.length_slack >= 1:
            raise ValueError(f"length_slack is {self.length_slack}, but must be 1 or more")
        if self.max_label_columns < 1:
            raise ValueError(f"max_label_columns is {self.max_label_columns}, but must be 1 or more")
        if not 0 <= self.language_min_confidence <= 1:
            raise ValueError(f"language_min_confidence is {self.language_min_confidence}, but lies between 0 and 1")

    def without(self, *names: str) -> Checks:
        """Leaves checks out, such as those that a back end always fails."""
        return dataclasses.replace(self, names=tuple(name for name in self.names if name not in names))


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Why an example is no good."""

    reason: str  # the check's name, one of elements.REASONS
    detail: str  # one line for a person


def parse_checks(text: str, known: Sequence[str] = CHECKS) -> tuple[str, ...]:
    """Reads `all`, `none`, or names of checks separated by commas.

    Returns:
      The names, in the order of `known`.

    Raises:
      ValueError: an unknown name (with the nearest one), an empty one, or `all` or `none` among others.
    """
    items = [item.strip().casefold().replace("-", "_") for item in text.split(",")]
    if items == ["all"]:
        return tuple(known)
    if items == ["none"]:
        return ()
    for item in items:
        if not item:
            raise ValueError(f"{text!r} holds an empty name; give all, none or names of {', '.join(known)}")
        if item in ("all", "none"):
            raise ValueError(f"{item!r} stands alone or not at all, but came in {text!r}")
        if item not in known:
            near = difflib.get_close_matches(item[:40], [*known, "all", "none"], n=1, cutoff=0.4)
            hint = f": did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"unknown check {item[:40]!r}{hint} Known are {', '.join(known)}, all and none")
    return tuple(name for name in known if name in items)


def find_fault(example: Example, checks: Checks) -> Fault | None:
    """Finds the first check that an example fails; None where it is good."""
    return next(faults_in(example, checks), None)


def faults_in(example: Example, checks: Checks) -> Iterator[Fault]:
    """Yields a fault for each check that an example fails, in the order of CHECKS."""
    row = _Row(example)
    for name in CHECKS:
        if name in checks.names and (detail := _CHECKS[name](row, checks)) is not None:
            yield Fault(name, detail)


class _Row:
    """An example, and what more than one check needs of it."""

    def __init__(self, example: Example) -> None:
        self.example = example

    @functools.cached_property
    def folded(self) -> str:
        return fold(self.example.input_text)

    @functools.cached_property
    def spaced(self) -> str:
        return spaced(self.folded)


_PLACEHOLDER_TEXTS: Final = """
n/a|none|null|undefined|todo|tbd|tba|placeholder|text|input text|your text|your text here|your input text
your input text here|text here|text goes here|your text goes here|insert text|insert text here|insert your text here
insert input text here|enter text here|enter your text here|type your text here|sample text|sample input text
example text|example input text|the input text|some text|some text here|the text to classify|text to classify
input text here|input text goes here|lorem ipsum
ihr text hier|dein text hier|text hier einfügen|hier text einfügen|eingabetext|beispieltext|der eingabetext
votre texte ici|insérer le texte ici|texte d'entrée|texte ici|exemple de texte
su texto aquí|tu texto aquí|texto aquí|texto de entrada|inserte el texto aquí|texto de ejemplo
seu texto aqui|texto aqui|insira o texto aqui|texto de exemplo
il tuo testo qui|testo qui|testo di input|inserisci il testo qui|testo di esempio
uw tekst hier|jouw tekst hier|invoertekst|voorbeeldtekst|twój tekst tutaj|tekst wejściowy
ваш текст|ваш текст здесь|входной текст|введите текст|пример текста|ваш текст тут|вхідний текст
metninizi buraya yazın|giriş metni|metin buraya|teks masukan|teks anda di sini
văn bản đầu vào|nhập văn bản vào đây|văn bản của bạn ở đây
输入文本|在此输入文本|请在此输入文本|您的文本|文本内容|示例文本|輸入文字|在此輸入文字|在此輸入文本|輸入文本|您的文字
入力テキスト|ここにテキストを入力|ここにテキストを入力してください|サンプルテキスト
입력 텍스트|여기에 텍스트를 입력하세요|여기에 텍스트 입력
النص هنا|نص الإدخال|أدخل النص هنا|متن ورودی|متن شما در اینجا|متن خود را اینجا وارد کنید
इनपुट पाठ|यहाँ पाठ लिखें|अपना पाठ यहाँ लिखें|ข้อความที่ป้อน|ใส่ข้อความที่นี่|ข้อความของคุณที่นี่
"""
"""Whole texts that models leave in the place of a text, without brackets and punctuation around."""

_SLOT: Final = re.compile(r"(?:\[[^\[\]]*\]|<[^<>]*>|\{+[^{}]*\}+)", re.S)
_SLOT_TEXTS: Final = """
text input insert enter your example sample content placeholder sentence message here string value texte texto testo
tekst tekste teks metin eingabe beispiel текст введите 文本 输入 輸入 テキスト 入力 텍스트 입력 نص متن पाठ ข้อความ
"""
_SLOT_WORDS: Final = frozenset(_SLOT_TEXTS.split())
_MAX_SLOT_WORDS: Final = 6
_LOREM: Final = "lorem ipsum dolor"


def _placeholder(row: _Row, checks: Checks) -> str | None:
    text = row.folded.strip()
    core = _outer(row.spaced)
    if not core:
        return "the text holds no letter, digit or symbol"
    if len(core) > 80:
        return "the text is lorem ipsum" if core.startswith(_LOREM) else None
    if core in _PLACEHOLDERS or core.startswith(_LOREM):
        return f"the text is {row.example.input_text[:60]!r}"
    # "[input_text]", "<insert a review here>", "{{ text }}", but neither "[inaudible]" nor "<3"
    if _SLOT.fullmatch(text):
        words = core.split()
        named = any(word in _SLOT_WORDS for word in words) or any(
            word in core for word in _SLOT_WORDS if not word.isascii()
        )
        if named and len(words) <= _MAX_SLOT_WORDS:
            return f"the text is {row.example.input_text[:60]!r}"
    return None


def _outer(text: str) -> str:
    """Strips white space, punctuation and the brackets < > { } from both ends of a folded text; symbols stay."""
    start, end = 0, len(text)
    while start < end and _is_outer(text[start]):
        start += 1
    while start < end and _is_outer(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_outer(char: str) -> bool:
    if char.isalnum():
        return False
    return char in "<>|`~=" or unicodedata.category(char)[0] in "PZC"


_PLACEHOLDERS: Final = frozenset(_outer(spaced(fold(text))) for text in re.split(r"[|\n]", _PLACEHOLDER_TEXTS) if text)


_ECHO_CHARS: Final = 25  # a shorter stretch may stand in two texts by chance
_ECHO_UNSPACED_CHARS: Final = 12  # as much, in Chinese or Thai
_LINE_CHARS: Final = 40  # of a line of the prompt, found in the text


def _is_long(text: str) -> bool:
    return len(text) >= _ECHO_CHARS or (len(text) >= _ECHO_UNSPACED_CHARS and is_unspaced(text))


@functools.lru_cache(maxsize=1024)  # rows of a task come one after the other
def _task_core(task: str) -> str:
    return _outer(spaced(fold(task)))


def _echo(row: _Row, checks: Checks) -> str | None:
    task = _task_core(row.example.task)
    core = _outer(row.spaced)
    if core and core == task:
        return "the text is the task"
    if _is_long(task) and task in row.spaced:
        return "the text holds the task, word for word"
    # Models repeat the prompt as it is; to fold it would cost more than all other checks.
    prompt, text = row.example.prompt, row.example.input_text
    if _is_long(core) and text.strip(" \t\n\"'") in prompt:
        return "the text is a part of the prompt"
    for line in prompt.splitlines():
        if len(line) >= _LINE_CHARS and len(line := line.strip(" \t-*•")) >= _LINE_CHARS and line in text:
            return f"the text holds a line of the prompt: {line[:60]!r}"
    return None


def _labels_equal(row: _Row, checks: Checks) -> str | None:
    label, misleading = row.example.label, row.example.misleading_label
    if label == misleading or normal_form(label) == normal_form(misleading):
        return f"both labels are {label[:60]!r}"
    return None


def _label_too_long(row: _Row, checks: Checks) -> str | None:
    for which, label in _labels(row.example):
        if len(label) * 2 <= checks.max_label_columns:
            continue
        columns = columns_of(label)
        if columns > checks.max_label_columns:
            return f"the {which} is {columns:,} columns wide, at most {checks.max_label_columns} fit: {label[:60]!r}"
    return None


def _labels(example: Example) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("label", example.label), ("misleading label", example.misleading_label)


# A label leaks where it stands in a text as whole words (`words.holds`), unless it may do so by chance: where it is too
# short (`words.is_telling`), a word of grammar of the row's language or of English (`common_words`), or only signs of
# arithmetic or currency. Even such a label is refused where it is the whole text, or where the text says "label: no".

_ANNOUNCED: Final = re.compile(
    r"(?:\b(?:label|answer|class|classification|category|sentiment|verdict|prediction|output|antwort|klasse|kategorie"
    "|etikett|réponse|catégorie|étiquette|classe|respuesta|categoría|etiqueta|clase|resposta|categoria|risposta|etichetta"
    "|antwoord|categorie|odpowiedź|kategoria|etykieta|ответ|категория|метка|класс|відповідь|cevap|kategori|etiket|jawaban"
    r"|nhãn|الإجابة|التصنيف|برچسب|उत्तर|लेबल)"
    "|标签|答案|类别|標籤|類別|ラベル|答え|回答|라벨|레이블|정답|답변|ป้ายกำกับ|คำตอบ)"
    r"\s*[:=]\s*[\"'“”«»\[(*]*"
)
"""Where a folded text announces a label."""


@functools.lru_cache(maxsize=8192)  # a task has few labels and many rows
def _needle(label: str) -> tuple[str, bool]:
    """Returns what is searched for in the folded and spaced text, and whether its occurrence is no chance."""
    text = spaced(fold(label)).strip()
    core = _outer(text)
    if text.endswith("#") and core:  # "c#", "f#"
        core = text[text.index(core) :]
    if not core:
        return text, False
    symbols = [char for char in core if unicodedata.category(char)[0] == "S"]
    if symbols:  # "c++" and emoji tell something, "+", "$$" and ">" do not
        return core, any(map(str.isalnum, core)) or any(unicodedata.category(char) == "So" for char in symbols)
    return core, core.endswith("#") or is_telling(core)


def _label_in_text(row: _Row, checks: Checks) -> str | None:
    text = row.spaced
    for which, label in _labels(row.example):
        needle, tells = _needle(label)
        tells = tells and needle not in common_words(row.example.language)
        if tells and needle in text and holds(text, needle):
            return f"the {which} {label[:60]!r} stands in the text"
        if not tells and needle and _announces(text, needle):
            return f"the text says that the {which} is {label[:60]!r}"
    return None


def _announces(text: str, needle: str) -> bool:
    if _outer(text) == needle or text.strip() == needle:
        return True
    if ":" not in text and "=" not in text:
        return False
    for match in _ANNOUNCED.finditer(text):
        said = text[match.end() : match.end() + len(needle) + 2]
        if said.startswith(needle) and holds(said, needle):
            return True
    return False


_LENGTH: Final = re.compile(r"(less than|at least) (\d{1,6})")


def _wrong_length(row: _Row, checks: Checks) -> str | None:
    asked = _LENGTH.fullmatch(row.example.num_words)
    if asked is None:  # "any"
        return None
    bound = int(asked[2])
    fewest, most = count_words(row.example.input_text)
    if asked[1] == "at least":
        if most * checks.length_slack < bound:
            return f"{most} words where {row.example.num_words} were asked for"
    elif fewest >= bound * checks.length_slack:
        return f"{fewest} words where {row.example.num_words} were asked for"
    return None


_ABOUT_LANGUAGES: Final = re.compile(
    r"languages?\b|dialect|translat|lingual|code.?switch|sprache|langue|idioma|lingua|език|язык|мов[аиу]|语言|語言|言語|언어"
    r"|لغة|زبان|भाषा|ภาษา|ngôn ngữ|bahasa|\b(?:"
    + "|".join(sorted(re.escape(name.partition(" (")[0].casefold()) for name in NAMES))
    + r")\b"
)
"""Tasks whose texts may well be in another language than the one asked for, such as to judge a translation."""


def _wrong_language(row: _Row, checks: Checks) -> str | None:
    try:
        checked = check_language(
            row.example.input_text,
            row.example.language,
            min_bytes=checks.language_min_bytes,
            min_confidence=checks.language_min_confidence,
        )
    except UnknownLanguage:  # named by a caller in their own words
        return None
    if checked.verdict != "wrong" or _ABOUT_LANGUAGES.search(fold(row.example.task)):
        return None
    return f"{checked.found} ({checked.confidence:.2f}) where {row.example.language} was asked for"


_CHECKS: Final[Mapping[str, Callable[[_Row, Checks], str | None]]] = {
    "placeholder": _placeholder,
    "echo": _echo,
    "labels_equal": _labels_equal,
    "label_too_long": _label_too_long,
    "label_in_text": _label_in_text,
    "wrong_length": _wrong_length,
    "wrong_language": _wrong_language,
}
