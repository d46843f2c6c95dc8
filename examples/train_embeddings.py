"""Trains an embedding model of sentence-transformers on a dataset that Textmint wrote.

    pip install -e '.[train]'
    python examples/train_embeddings.py output --model=intfloat/multilingual-e5-small --steps=200

It reads the config `triplets`, whose `label_id` tells which labels are the same, keeps the rows of a tenth of the tasks
aside, and prints the loss and the share of these rows whose label comes closer to the text than the misleading label
does, before and after. The dataset is a folder or OWNER/NAME on the Hugging Face Hub.

A run that was stopped goes on with `--resume` from its last checkpoint. A large `--batch_size` fits any memory:
`--mini_batch_size` rows are embedded at once, and their gradients cached.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from huggingface_hub import ModelCard
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from torch import Tensor, nn
from tqdm import tqdm

TEXTS = ["anchor", "positive", "negative"]
TEMPERATURE = 0.02  # section 3.2 of arXiv 2401.00368


# --- the loss


def false_negatives(labels: Tensor) -> Tensor:
    """Returns a mask [anchor, candidate], True for candidates that are no negatives of an anchor.

    The candidates of each anchor are the labels of all rows, then the misleading labels of all rows. Its own label is
    the one to find. Another row's label, or misleading label, that is the same within the same task is right as well;
    and one of another task that is spelled the same has the same embedding, so that nothing can tell them apart.

    Args:
      labels: four numbers for each row of the batch, as `with_labels` makes them.
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
    """Computes the mean of -log P(own label | anchor), where P is the softmax of the cosines over all candidates that
    are not false negatives: InfoNCE, which sentence-transformers calls MultipleNegativesRankingLoss.

    Args:
      anchors: embeddings [row, dimension].
      candidates: embeddings of all labels, then of all misleading labels.
      labels: as `false_negatives` takes them.
      temperature: divides the cosines.
    """
    cosines = nn.functional.normalize(anchors, dim=-1) @ nn.functional.normalize(candidates, dim=-1).T
    scores = (cosines / temperature).masked_fill(false_negatives(labels), -torch.inf)
    return nn.functional.cross_entropy(scores, torch.arange(len(anchors), device=scores.device))


class MaskedRankingLoss(CachedLossMixin, nn.Module):
    """Gives `masked_ranking_loss` the form that the trainer of sentence-transformers calls.

    Args:
      model: to train.
      temperature: as for `masked_ranking_loss`.
      mini_batch_size: rows that are embedded at once; None: the whole batch. Gradients are cached then
        (arXiv 2101.06983), which costs a second embedding.
    """

    def __init__(
        self, model: SentenceTransformer, temperature: float = TEMPERATURE, mini_batch_size: int | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.uses_gradient_cache = mini_batch_size is not None
        self.mini_batch_size = mini_batch_size or 0

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Computes the loss of a batch.

        Args:
          sentence_features: the tokens of anchors, labels and misleading labels.
          labels: as `false_negatives` takes them.
        """
        if self.uses_gradient_cache:
            return self.forward_cached(sentence_features, labels)
        return self.calculate_loss(
            [[self.model(features)["sentence_embedding"]] for features in sentence_features], labels
        )

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Computes the loss for `CachedLossMixin`.

        Args:
          reps: the embeddings of anchors, labels and misleading labels, each in mini-batches.
          labels: as `false_negatives` takes them.
          with_backward: whether to compute gradients at once.
        """
        assert labels is not None
        anchors, *candidates = [torch.cat(parts) for parts in reps]
        loss = masked_ranking_loss(anchors, torch.cat(candidates), labels, self.temperature)
        if with_backward:
            loss.backward()
            return loss.detach()
        return loss


# --- the data


def with_labels(triplets: Dataset) -> Dataset:
    """Keeps anchor, positive and negative, and adds `label`, the column that the trainer hands to the loss as it is.

    It holds four numbers, which are equal where what they stand for is: the label's id, the misleading label's id, the
    label's text, the misleading label's text. Every other column would be trained on as text.
    """
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
    """Splits by task, so that a model is evaluated on tasks that it has not seen.

    A `task_id` is a hash, and chooses a tenth of the tasks, always the same, but one at least.

    Args:
      triplets: rows of the config of that name.

    Returns:
      The rows to train on, and those that are kept aside.
    """
    tasks = set(triplets["task_id"])
    aside = {task for task in tasks if int(task[:8], 16) % 10 == 0}
    if not aside or aside == tasks:
        aside = {min(tasks)}
    kept_aside = [task in aside for task in triplets["task_id"]]
    places = range(len(kept_aside))
    return (
        triplets.select([place for place in places if not kept_aside[place]]),
        triplets.select([place for place in places if kept_aside[place]]),
    )


# --- evaluation


def _batches(rows: Dataset, size: int) -> Iterator[dict[str, list[Any]]]:
    for start in tqdm(range(0, len(rows), size), desc="Evaluating", unit="batch", leave=False):
        yield rows[start : start + size]


def evaluate(model: SentenceTransformer, rows: Dataset, batch_size: int) -> tuple[float, float]:
    """Returns the mean loss of rows of `with_labels`, in batches of their order, and the share of rows whose label is
    closer to the anchor than their misleading label is."""
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
    model: SentenceTransformer,
    rows: Dataset,
    kept_aside: Dataset,
    *,
    steps: int | None,
    epochs: float,
    batch_size: int,
    mini_batch_size: int,
    learning_rate: float,
    seed: int,
    checkpoints: Path,
    resume: bool = False,
) -> int:
    """Trains the model in place; returns how many steps it has seen.

    Args:
      model: to train.
      rows: of `with_labels`.
      kept_aside: the same; their loss is shown before the first step and now and then.
      steps: batches; None: as many as `epochs` have.
      epochs: how often each row comes, if `steps` is None.
      batch_size: rows of a batch.
      mini_batch_size: as for `MaskedRankingLoss`, if the batch is larger.
      learning_rate: the highest.
      seed: of the order of rows.
      checkpoints: a folder for checkpoints.
      resume: whether to go on from the last one.
    """
    total = steps or max(1, int(-(-len(rows) // batch_size) * epochs))
    often = max(1, total // 5)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        max_steps=total,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=total // 10,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        seed=seed,
        save_strategy="steps",
        save_steps=often,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=often,
        eval_on_start=not resume,
        report_to="none",
        logging_steps=often,
    )
    loss = MaskedRankingLoss(model, mini_batch_size=mini_batch_size if mini_batch_size < batch_size else None)
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=rows, eval_dataset=kept_aside, loss=loss)
    trainer.train(resume_from_checkpoint=resume)
    return int(trainer.state.global_step)


def license_of(model: str) -> str | None:
    """Looks up the license on the card of a model, a folder or a name on the Hub; None if there is none."""
    card = Path(model, "README.md")
    if Path(model).is_dir() and not card.is_file():
        return None
    try:
        found = ModelCard.load(str(card) if card.is_file() else model).data.to_dict().get("license")
    except Exception as error:  # no network, no such model, a card that is no YAML
        print(f"the license of {model} is not known: {type(error).__name__}")
        return None
    return found if isinstance(found, str) else None


def main(argv: Sequence[str] | None = None) -> None:
    """Trains as the command line says, saves the model, and prints its figures.

    Args:
      argv: arguments; None: those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", metavar="OUTPUT", help="the dataset: a folder that textmint wrote, or OWNER/NAME")
    parser.add_argument(
        "--model", default="intfloat/multilingual-e5-small", help="what to start from: a folder or name"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="batches to train on (default: 200)")
    length.add_argument("--epochs", type=float, help="how often to train on each row, instead of --steps")
    parser.add_argument("--batch_size", type=int, default=32, help="rows of a batch, each a negative of the others")
    parser.add_argument("--mini_batch_size", type=int, default=32, help="rows that are embedded at once; bounds memory")
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--save", default="trained-model", metavar="DIR", help="where the model goes")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, in DIR-checkpoints")
    given = parser.parse_args(argv)
    for name in ("steps", "epochs", "batch_size", "mini_batch_size", "learning_rate"):
        if (value := getattr(given, name)) is not None and value <= 0:
            parser.error(f"--{name} is {value}; it must be above 0")
    checkpoints = Path(f"{given.save.rstrip('/')}-checkpoints")
    there = list(checkpoints.glob("checkpoint-*"))
    if given.resume and not there:
        parser.error(f"--resume: there is no checkpoint in {checkpoints}")
    if there and not given.resume:
        parser.error(f"{checkpoints} is of a run that was stopped: add --resume to go on, or remove it")

    triplets, kept_aside = (with_labels(part) for part in split(load_dataset(given.dataset, "triplets", split="train")))
    if len(triplets) < 2 or not len(kept_aside):
        parser.error(f"{given.dataset} has too few tasks to keep one aside: mint more, with --task_requests or --tasks")
    model = SentenceTransformer(given.model)
    sample = triplets.select(range(min(len(triplets), 512)))
    before = [evaluate(model, rows, given.batch_size) for rows in (sample, kept_aside)]
    print(f"before step 1: loss {before[1][0]:.4f}, label over misleading {before[1][1]:.1%} of the rows kept aside")
    steps = train(
        model,
        triplets,
        kept_aside,
        steps=given.steps if given.epochs else given.steps or 200,
        epochs=given.epochs or 1,
        batch_size=given.batch_size,
        mini_batch_size=given.mini_batch_size,
        learning_rate=given.learning_rate,
        seed=given.seed,
        checkpoints=checkpoints,
        resume=given.resume,
    )
    after = [evaluate(model, rows, given.batch_size) for rows in (sample, kept_aside)]
    # A path of this machine says nothing to others.
    model.model_card_data.base_model = Path(given.model).name if Path(given.model).is_dir() else given.model
    model.model_card_data.license = license_of(given.model)
    model.save_pretrained(given.save)
    shutil.rmtree(checkpoints)

    print(f"{len(triplets):,} rows to train on, {len(kept_aside):,} of other tasks kept aside; {steps:,} steps")
    print(f"loss, trained rows:      {before[0][0]:.4f} -> {after[0][0]:.4f}")
    print(f"loss, rows kept aside:   {before[1][0]:.4f} -> {after[1][0]:.4f}")
    print(f"label over misleading:   {before[1][1]:.1%} -> {after[1][1]:.1%} of the rows kept aside")
    print(f"saved to {given.save}")


if __name__ == "__main__":
    main()
