"""The unpacked model of the language identifier: the same verdicts, from memory that processes share."""

from __future__ import annotations

import lzma
import sys
from pathlib import Path
from typing import Any

import pytest
from py3langid import langid
from textmint.transforms.quality import language_model

TEXTS = (
    "The parcel has been waiting at your warehouse for three weeks, and nobody answers the phone.",
    "Das Paket wartet seit drei Wochen in Ihrem Lager, und niemand geht ans Telefon.",
    "पैकेट तीन हफ्ते से आपके गोदाम में पड़ा है और कोई फोन नहीं उठाता।",
    "包裹已经在你们的仓库里放了三个星期，打电话也没有人接。",
    "12345 67890 {}[]",
    "",
)


@pytest.fixture(scope="module")
def packed() -> Any:
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def read_packed(*_: object) -> Any:
    raise AssertionError("the packed model was read")


def test_it_is_unpacked_once_and_says_the_same(prefix: Path, packed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = language_model.unpack()
    assert prefix in folder.parents and [path.name for path in folder.parent.iterdir()] == [folder.name]
    monkeypatch.setattr("py3langid.modelio.load_model", read_packed)
    monkeypatch.setattr("py3langid.langid._load_model_file", read_packed)
    assert language_model.unpack() == folder
    unpacked = language_model.load()
    assert unpacked.labels == packed.labels
    for text in TEXTS:
        assert unpacked.rank(text) == packed.rank(text)
    assert not unpacked.nb_ptc.flags.owndata and not unpacked.nb_ptc.flags.writeable


@pytest.mark.parametrize("damage", ["none there", "one gone", "one cut short", "of another model"])
def test_without_a_whole_one_the_packed_one_is_read(
    damage: str, prefix: Path, packed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage != "none there":
        folder = language_model.unpack()
        moves = folder / "moves.npy"
        if damage == "one gone":
            moves.unlink()
        elif damage == "one cut short":
            moves.write_bytes(moves.read_bytes()[:1000])
        else:
            other = prefix / "other.xz"
            other.write_bytes(language_model._packed().read_bytes() + lzma.compress(b""))
            monkeypatch.setattr(langid, "MODEL_FILE", str(other))
    found = language_model.load()
    assert found.rank(TEXTS[0]) == packed.rank(TEXTS[0])
    assert isinstance(found.tk_nextmove, type(packed.tk_nextmove))


def test_what_fails_leaves_nothing(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("numpy.save", full)
    with pytest.raises(OSError, match="No space left"):
        language_model.unpack()
    assert list((prefix / "share" / "textmint").iterdir()) == []
