"""The example that trains: its loss on numbers worked out by hand, and the command on a tiny model, offline."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.core.identity import fraction, stable_hash
from textmint.transforms.dataset.card import CARD, dataset_card
from textmint.transforms.dataset.schema import to_parquet
from textmint.transforms.dataset.triplets import TRIPLETS, Triplet, anchor_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "train_embeddings.py"
NEEDED = ("torch", "sentence_transformers", "transformers", "accelerate", "datasets")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; pip install -e '.[train]' brings them"
)


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("train_embeddings", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the loss

# anchor 1 is (1, 0), anchor 2 is (0, 1); the candidates are label 1, label 2, misleading label 1, misleading label 2
ANCHORS = [[1.0, 0.0], [0.0, 2.0]]  # lengths do not matter
CANDIDATES = [[3.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]
E = math.e


@pytest.mark.parametrize(
    ("labels", "mask", "loss"),
    [
        # All differ. Cosines of anchor 1: 1 0 0 -1, of anchor 2: 0 1 1 0.
        # -1 + ln(e + 1 + 1 + 1/e) = 0.62652, -1 + ln(1 + e + e + 1) = 1.00641
        ([[0, 1, 10, 11], [2, 3, 12, 13]], [[0, 0, 0, 0], [0, 0, 0, 0]], (0.62652 + 1.00641) / 2),
        # The misleading label of row 1 is the label of row 2: anchor 2 is left with 0 1 0. -1 + ln(1 + e + 1) = 0.55144
        ([[0, 2, 10, 12], [2, 3, 12, 13]], [[0, 0, 0, 0], [0, 0, 1, 0]], (0.62652 + 0.55144) / 2),
        # The same in another task, so that only the text is equal.
        ([[0, 1, 10, 12], [2, 3, 12, 13]], [[0, 0, 0, 0], [0, 0, 1, 0]], (0.62652 + 0.55144) / 2),
        # Both rows have one label: neither is the other's negative, each is to find its own.
        # 1 0 -1: -1 + ln(e + 1 + 1/e) = 0.40761; 1 1 0: -1 + ln(e + e + 1) = 0.86199
        ([[0, 1, 10, 11], [0, 3, 10, 13]], [[0, 1, 0, 0], [1, 0, 0, 0]], (0.40761 + 0.86199) / 2),
        # Nothing is left but the own label.
        ([[0, 0, 10, 10], [0, 0, 10, 10]], [[0, 1, 1, 1], [1, 0, 1, 1]], 0.0),
    ],
)
def test_the_loss_by_hand(script: Any, labels: list[list[int]], mask: list[list[int]], loss: float) -> None:
    import torch

    assert script.false_negatives(torch.tensor(labels)).int().tolist() == mask
    candidates = torch.tensor(CANDIDATES, requires_grad=True)
    found = script.masked_ranking_loss(torch.tensor(ANCHORS), candidates, torch.tensor(labels), 1.0)
    assert found.item() == pytest.approx(loss, abs=2e-5)
    found.backward()
    assert candidates.grad is not None and bool(candidates.grad.any()) is (loss > 0)


def test_without_repeated_labels_it_is_that_of_the_library(script: Any) -> None:
    import torch
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    class Given(torch.nn.Module):  # a model whose embeddings are its input
        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            return {"sentence_embedding": features["given"]}

    generator = torch.Generator().manual_seed(1)
    features = [{"given": torch.randn(5, 7, generator=generator)} for _ in range(3)]
    labels = torch.arange(20).reshape(5, 4)
    ours = script.MaskedRankingLoss(Given(), 0.05)(features, labels)
    theirs = MultipleNegativesRankingLoss(Given(), scale=20.0)(features, labels)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_the_cache_of_gradients_changes_neither_loss_nor_gradients(script: Any) -> None:
    import torch

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(7, 4, generator=torch.Generator().manual_seed(2)))

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            return {"sentence_embedding": features["input_ids"] @ self.weight}

    labels = torch.tensor([[0, 2, 10, 12], [2, 0, 12, 10], [4, 5, 14, 10], [6, 7, 16, 17], [0, 9, 10, 19]])
    found = []
    for mini_batch_size in (None, 2):
        model = Linear()
        generator = torch.Generator().manual_seed(1)
        features = [{"input_ids": torch.randn(5, 7, generator=generator)} for _ in range(3)]
        loss = script.MaskedRankingLoss(model, 0.1, mini_batch_size)(features, labels)
        loss.backward()
        found.append((loss.item(), model.weight.grad))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5) and found[0][1].any()


# --- the command

WORDS = {
    "Sort mail by topic": {"parcel": "delivery", "invoice": "payment", "refund": "returns", "password": "account"},
    "Tell how a guest felt": {"lovely": "pleased", "dirty": "angry", "late": "impatient", "quiet": "rested"},
}
TASKS = 20


def make_output(folder: Path, rows: int = 160) -> Path:
    """Makes a dataset folder whose labels can be learned: each goes with one word of the text."""
    triplets = []
    for number in range(rows):
        row_id = stable_hash("row", number)
        kind = sorted(WORDS)[number % 2]
        words = sorted(WORDS[kind])
        place = fraction("word", row_id) % len(words)
        other = words[(place + 1 + fraction("other", row_id) % (len(words) - 1)) % len(words)]
        label, misleading = WORDS[kind][words[place]], WORDS[kind][other]
        task = f"{kind} {number % TASKS}"
        triplets.append(
            Triplet(
                anchor=anchor_of(task, f"This is about something {words[place]} again, number {number % 7}."),
                positive=label,
                negative=misleading,
                id=row_id,
                task_id=stable_hash("task", task),
                label_id=stable_hash("label", task, label),
                misleading_label_id=stable_hash("label", task, misleading),
            )
        )
    path = folder / "triplets" / "refresh=base" / "part-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(to_parquet(triplets, TRIPLETS))
    files = {"triplets": [{"path": str(path.relative_to(folder)), "rows": rows, "bytes": 1}]}
    manifest = {"refreshes": {"base": {"files": files}}}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    (folder / CARD).write_text(dataset_card(manifest), "utf-8")
    return folder


def make_model(folder: Path, texts: list[str]) -> Path:
    """Makes a BERT of one small layer, and a tokenizer that knows the texts' words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = sorted({word.lower() for text in texts for word in re.findall(r"\w+|[^\w\s]+", text)})
    vocabulary = {word: number for number, word in enumerate([*special.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=fast.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_it_trains(tmp_path: Path) -> None:
    output = make_output(tmp_path / "output")
    texts = [word for task, words in WORDS.items() for word in (task, *words, *words.values())]
    model = make_model(
        tmp_path / "tiny",
        [*texts, "Instruct: Query: This is about something again, number " + " ".join(map(str, range(TASKS))) + "."],
    )
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), str(output), f"--model={model}", f"--save={tmp_path / 'trained'}"),
            *("--epochs=12", "--batch_size=16", "--mini_batch_size=8", "--learning_rate=0.003"),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    trained, evaluated = re.findall(r"^loss, .*: +([\d.]+) -> ([\d.]+)$", done.stdout, re.MULTILINE)
    assert float(trained[1]) < float(trained[0]) / 2
    assert float(evaluated[1]) < float(evaluated[0])
    found = re.search(r"^label over misleading: +([\d.]+)% -> ([\d.]+)%", done.stdout, re.MULTILINE)
    assert found is not None
    # a word tells the label, so that what was not trained on is found too
    assert float(found[2]) > max(90, float(found[1]))
    assert re.search("before step 1: loss.*eval_loss.*rows to train on", done.stdout, re.DOTALL)
    card = (tmp_path / "trained" / "README.md").read_text("utf-8")
    assert "\nbase_model: tiny\n" in card
    assert not (tmp_path / "trained-checkpoints").exists()
    assert (tmp_path / "trained" / "modules.json").is_file() and (tmp_path / "trained" / "model.safetensors").is_file()


def triplet_row(number: int, **changes: str) -> dict[str, str]:
    row = {name: f"{name} {number}" for name in TRIPLETS.names}
    return {**row, "id": stable_hash("row", number), **changes}


def test_what_is_the_same_gets_the_same_number(script: Any) -> None:
    from datasets import Dataset

    rows = [
        triplet_row(0, label_id="a", misleading_label_id="b", positive="Good", negative="bad"),
        triplet_row(1, label_id="b", misleading_label_id="a", positive="bad", negative="good "),  # the same task
        triplet_row(2, label_id="c", misleading_label_id="d", positive="good", negative="so-so"),  # another task
    ]
    labelled = script.with_labels(Dataset.from_list(rows))
    assert labelled.column_names == ["anchor", "positive", "negative", "label"]
    (a, b, good, bad), *others = labelled["label"]
    assert len({a, b, good, bad}) == 4
    assert others[0] == [b, a, bad, good]
    assert others[1][2] == good and not {*others[1][:2], others[1][3]} & {a, b, good, bad}


@pytest.mark.parametrize(("tasks", "fewest", "most"), [(100, 3, 20), (3, 1, 1), (2, 1, 1)])
def test_a_tenth_of_the_tasks_is_for_evaluation_and_always_the_same(
    script: Any, tasks: int, fewest: int, most: int
) -> None:
    from datasets import Dataset

    rows = [triplet_row(number, task_id=stable_hash("task", number % tasks)) for number in range(5 * tasks)]
    trained, evaluated = script.split(Dataset.from_list(rows))
    assert sorted([*trained["id"], *evaluated["id"]]) == sorted(row["id"] for row in rows)
    assert not set(trained["task_id"]) & set(evaluated["task_id"])  # or it would be evaluated on what it has seen
    assert fewest <= len(set(evaluated["task_id"])) <= most
    backwards = script.split(Dataset.from_list(rows[::-1]))[1]
    assert set(backwards["id"]) == set(evaluated["id"])


def test_a_run_that_was_stopped_goes_on(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import load_dataset
    from sentence_transformers import SentenceTransformer

    output = make_output(tmp_path / "output", 40)
    model = make_model(tmp_path / "tiny", ["a"])
    rows, evaluated = map(script.with_labels, script.split(load_dataset(str(output), "triplets", split="train")))
    given = script._parser().parse_args([str(output), "--steps=2", "--batch_size=8", "--learning_rate=0.001"])
    checkpoints = tmp_path / "saved-checkpoints"
    assert script.train(SentenceTransformer(str(model)), rows, evaluated, given, checkpoints) == 2
    with pytest.raises(SystemExit):
        script.main([str(output), f"--model={model}", f"--save={tmp_path / 'saved'}"])
    assert "add --resume to go on" in capsys.readouterr().err
    script.main(
        [str(output), f"--model={model}", f"--save={tmp_path / 'saved'}", "--steps=4", "--batch_size=8", "--resume"]
    )
    assert "; 4 steps" in capsys.readouterr().out
    assert (tmp_path / "saved" / "modules.json").is_file() and not checkpoints.exists()


def test_too_few_rows_are_told(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datasets import Dataset

    row = triplet_row(0, task_id=stable_hash("task", 0))
    monkeypatch.setattr(script, "load_dataset", lambda *_, **__: Dataset.from_list([row]))
    with pytest.raises(SystemExit) as ended:
        script.main(["output"])
    assert ended.value.code == 2
    assert "output has too few tasks" in capsys.readouterr().err.splitlines()[-1]
