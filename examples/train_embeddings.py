"""Trains an embedding model of sentence-transformers on a dataset that Textmint wrote.

    pip install -e '.[train]'
    python examples/train_embeddings.py output --model=intfloat/multilingual-e5-small --steps=200

It reads the config `triplets`, whose `label_id` tells which labels are the same, keeps a tenth of the rows aside, and
prints the loss and the share of these rows whose label comes closer to the text than the misleading label does, before
and after. The dataset is a folder or OWNER/NAME on the Hugging Face Hub.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset, load_dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import Tensor, nn

TEXTS = ["anchor", "positive", "negative"]
TEMPERATURE = 0.02  # section 3.2 of arXiv 2401.00368


# --- the loss


def false_negatives(labels: Tensor) -> Tensor:
    """The labels of a batch -> which candidates are no negatives of which anchor: [anchor, candidate], True for those.

    The candidates of each anchor are the labels of all rows, then the misleading labels of all rows. Its own label is
    the one to find. Another row's label, or misleading label, that is the same within the same task is right as well;
    and one of another task that is spelled the same has the same embedding, so that nothing can tell them apart.

    Args:
      labels: a row for each row of the batch, of numbers that are equal where what they stand for is: the label's id,
        the misleading label's id, the label's text, the misleading label's text. See `with_labels`.
    """
    ids = torch.cat([labels[:, 0], labels[:, 1]])
    texts = torch.cat([labels[:, 2], labels[:, 3]])
    same = (ids == labels[:, 0, None]) | (texts == labels[:, 2, None])
    rows = torch.arange(len(labels), device=labels.device)
    same[rows, rows] = False  # the one to find
    return same


def masked_ranking_loss(
    anchors: Tensor, candidates: Tensor, labels: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Embeddings of a batch -> the mean of -log P(own label | anchor), where P is the softmax of the cosines over all
    candidates that are not false negatives: InfoNCE, which sentence-transformers calls MultipleNegativesRankingLoss.

    Args:
      anchors: a row for each row of the batch.
      candidates: the embeddings of all labels, then of all misleading labels.
      labels: as `false_negatives` takes them.
      temperature: what cosines are divided by.
    """
    cosines = nn.functional.normalize(anchors, dim=-1) @ nn.functional.normalize(candidates, dim=-1).T
    scores = (cosines / temperature).masked_fill(false_negatives(labels), -torch.inf)
    return nn.functional.cross_entropy(scores, torch.arange(len(anchors), device=scores.device))


class MaskedRankingLoss(nn.Module):
    """`masked_ranking_loss`, as the trainer of sentence-transformers calls it."""

    def __init__(self, model: SentenceTransformer, temperature: float = TEMPERATURE) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        anchors, *candidates = [self.model(features)["sentence_embedding"] for features in sentence_features]
        return masked_ranking_loss(anchors, torch.cat(candidates), labels, self.temperature)


# --- the data


def with_labels(triplets: Dataset) -> Dataset:
    """Triplets -> anchor, positive, negative and `label`, the column that the trainer hands to the loss as it is. The
    ids themselves are left out: every other column would be trained on as text."""
    numbers: dict[tuple[str, str], int] = {}

    def number(kind: str, value: str) -> int:
        return numbers.setdefault((kind, value), len(numbers))

    labels = [
        [
            number("id", row["label_id"]),
            number("id", row["misleading_label_id"]),
            number("text", row["positive"].casefold().strip()),
            number("text", row["negative"].casefold().strip()),
        ]
        for row in triplets
    ]
    return triplets.select_columns(TEXTS).add_column("label", labels)


def split(triplets: Dataset) -> tuple[Dataset, Dataset]:
    """Triplets -> those to train on, and a tenth that is kept aside: chosen by the id, so always the same rows."""
    kept_aside = [int(row_id[:8], 16) % 10 == 0 for row_id in triplets["id"]]
    places = range(len(kept_aside))
    return (
        triplets.select([place for place in places if not kept_aside[place]]),
        triplets.select([place for place in places if kept_aside[place]]),
    )


# --- how good it is


def _batches(rows: Dataset, size: int) -> Iterator[dict[str, list[Any]]]:
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


def evaluate(model: SentenceTransformer, rows: Dataset, batch_size: int) -> tuple[float, float]:
    """A model and rows (as of `with_labels`) -> the mean loss in batches of their order, and the share of rows whose
    label is closer to the anchor than their misleading label is."""
    losses, right = [], 0
    for batch in _batches(rows, batch_size):
        anchors, positives, negatives = [
            model.encode(list(batch[name]), convert_to_tensor=True, show_progress_bar=False) for name in TEXTS
        ]
        labels = torch.tensor(batch["label"], device=anchors.device)
        loss = masked_ranking_loss(anchors, torch.cat([positives, negatives]), labels)
        losses.append(loss.item() * len(labels))
        to_label, to_misleading = (nn.functional.cosine_similarity(anchors, other) for other in (positives, negatives))
        right += int((to_label > to_misleading).sum())
    return sum(losses) / len(rows), right / len(rows)


# --- the command


def train(
    model: SentenceTransformer, rows: Dataset, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> None:
    """Trains the model on rows (as of `with_labels`), in place."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_steps=steps // 10,
            seed=seed,
            save_strategy="no",
            report_to="none",
            logging_steps=max(1, steps // 5),
        )
        SentenceTransformerTrainer(model, arguments, train_dataset=rows, loss=MaskedRankingLoss(model)).train()


def main(argv: Sequence[str] | None = None) -> None:
    """The command line -> a trained model in a folder, and its figures on the screen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", metavar="OUTPUT", help="the dataset: a folder that textmint wrote, or OWNER/NAME")
    parser.add_argument(
        "--model", default="intfloat/multilingual-e5-small", help="what to start from: a folder or name"
    )
    parser.add_argument("--steps", type=int, default=200, help="batches to train on")
    parser.add_argument("--batch_size", type=int, default=32, help="rows of a batch, each a negative of the others")
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--save", default="trained-model", metavar="DIR", help="where the model goes")
    given = parser.parse_args(argv)

    triplets, kept_aside = (with_labels(part) for part in split(load_dataset(given.dataset, "triplets", split="train")))
    if len(triplets) < 2 or not len(kept_aside):
        parser.error(f"{given.dataset} has too few rows to keep some aside: mint more, with --task_requests or --tasks")
    model = SentenceTransformer(given.model)
    looked_at = triplets.select(range(min(len(triplets), 512)))
    before = [evaluate(model, rows, given.batch_size) for rows in (looked_at, kept_aside)]
    train(
        model,
        triplets,
        steps=given.steps,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        seed=given.seed,
    )
    after = [evaluate(model, rows, given.batch_size) for rows in (looked_at, kept_aside)]
    model.save_pretrained(given.save)

    print(f"{len(triplets):,} rows to train on, {len(kept_aside):,} kept aside; {given.steps:,} steps")
    print(f"loss, trained rows:      {before[0][0]:.4f} -> {after[0][0]:.4f}")
    print(f"loss, rows kept aside:   {before[1][0]:.4f} -> {after[1][0]:.4f}")
    print(f"label over misleading:   {before[1][1]:.1%} -> {after[1][1]:.1%} of the rows kept aside")
    print(f"saved to {given.save}")


if __name__ == "__main__":
    main()
