"""Trains an embedding model of sentence-transformers on a dataset that Textmint wrote.

    pip install -e '.[train]'
    python examples/train_embeddings.py output --model=intfloat/multilingual-e5-small --steps=200

It reads the config `triplets`, whose `label_id` says which labels are the same, and keeps the rows of a tenth of the
tasks for evaluation. Before and after, it prints the loss, and the share of these rows whose label is closer to the
text than the misleading label is.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
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
    the one to find. A candidate that is the same label of the same task is right as well, and one of another task that
    is spelled the same has the same embedding.

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

    With a `mini_batch_size` only so many rows are embedded at once, and their gradients are cached (arXiv 2101.06983),
    which costs a second embedding.
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
        """Computes the loss of a batch of the tokens of anchors, labels and misleading labels."""
        if self.uses_gradient_cache:
            return self.forward_cached(sentence_features, labels)
        embeddings = [[self.model(features)["sentence_embedding"]] for features in sentence_features]
        return self.calculate_loss(embeddings, labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Computes the loss for `CachedLossMixin`, of embeddings in mini-batches."""
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
    """Splits into the rows to train on, and those of other tasks for evaluation.

    A `task_id` is a hash, and chooses a tenth of the tasks, always the same, but one at least.
    """
    tasks = list(triplets["task_id"])
    chosen = {task for task in tasks if int(task[:8], 16) % 10 == 0}
    if not chosen or chosen == set(tasks):
        chosen = {min(tasks)}
    rows = range(len(triplets))
    return (
        triplets.select([row for row, task in zip(rows, tasks, strict=True) if task not in chosen]),
        triplets.select([row for row, task in zip(rows, tasks, strict=True) if task in chosen]),
    )


# --- evaluation


def evaluate(model: SentenceTransformer, rows: Dataset, batch_size: int) -> tuple[float, float]:
    """Returns the mean loss of rows of `with_labels`, in batches of their order, and the share of rows whose label is
    closer to the anchor than their misleading label is."""
    losses, right = [], 0
    for start in tqdm(range(0, len(rows), batch_size), desc="Evaluating", unit="batch", leave=False):
        batch = rows[start : start + batch_size]
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
    model: SentenceTransformer, rows: Dataset, evaluated: Dataset, given: argparse.Namespace, checkpoints: Path
) -> int:
    """Trains the model in place; returns how many steps it has seen.

    Args:
      model: to train.
      rows: of `with_labels`.
      evaluated: the same; their loss is shown before the first step and five times later.
      given: the options of the command.
      checkpoints: a folder for checkpoints.
    """
    total = given.steps or max(1, int(-(-len(rows) // given.batch_size) * given.epochs))
    often = max(1, total // 5)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        max_steps=total,
        per_device_train_batch_size=given.batch_size,
        per_device_eval_batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        warmup_steps=total // 10,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        seed=given.seed,
        save_strategy="steps",
        save_steps=often,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=often,
        eval_on_start=not given.resume,
        report_to="none",
        logging_steps=often,
    )
    loss = MaskedRankingLoss(
        model, mini_batch_size=given.mini_batch_size if given.mini_batch_size < given.batch_size else None
    )
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=rows, eval_dataset=evaluated, loss=loss)
    trainer.train(resume_from_checkpoint=given.resume)
    return int(trainer.state.global_step)


def _parser() -> argparse.ArgumentParser:
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
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Trains as the command line says, saves the model, and prints its figures."""
    parser = _parser()
    given = parser.parse_args(argv)
    for name in ("steps", "epochs", "batch_size", "mini_batch_size", "learning_rate"):
        if (value := getattr(given, name)) is not None and value <= 0:
            parser.error(f"--{name} is {value}; it must be above 0")
    if not given.epochs:
        given.steps = given.steps or 200
    checkpoints = Path(f"{given.save.rstrip('/')}-checkpoints")
    has_checkpoint = any(checkpoints.glob("checkpoint-*"))
    if given.resume and not has_checkpoint:
        parser.error(f"--resume: there is no checkpoint in {checkpoints}")
    if has_checkpoint and not given.resume:
        parser.error(f"{checkpoints} is of a run that was stopped: add --resume to go on, or remove it")

    triplets, evaluated = (with_labels(part) for part in split(load_dataset(given.dataset, "triplets", split="train")))
    if len(triplets) < 2 or not len(evaluated):
        parser.error(f"{given.dataset} has too few tasks to keep one aside: mint more, with --task_requests or --tasks")
    model = SentenceTransformer(given.model)
    parts = (triplets.select(range(min(len(triplets), 512))), evaluated)
    before = [evaluate(model, rows, given.batch_size) for rows in parts]
    print(f"before step 1: loss {before[1][0]:.4f}, label over misleading {before[1][1]:.1%} of the evaluated rows")
    steps = train(model, triplets, evaluated, given, checkpoints)
    after = [evaluate(model, rows, given.batch_size) for rows in parts]
    # A path of this machine says nothing to others.
    model.model_card_data.base_model = Path(given.model).name if Path(given.model).is_dir() else given.model
    model.save_pretrained(given.save)
    shutil.rmtree(checkpoints)

    print(f"{len(triplets):,} rows to train on, {len(evaluated):,} of other tasks for evaluation; {steps:,} steps")
    print(f"loss, trained rows:      {before[0][0]:.4f} -> {after[0][0]:.4f}")
    print(f"loss, evaluated rows:    {before[1][0]:.4f} -> {after[1][0]:.4f}")
    print(f"label over misleading:   {before[1][1]:.1%} -> {after[1][1]:.1%} of the evaluated rows")
    print(f"saved to {given.save}")


if __name__ == "__main__":
    main()
