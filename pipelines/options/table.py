"""The option table: every option of the main job, with its default and its help. What a value means, and whether it is
one, stands in `options`; `deploy/metadata.py` makes the parameters of the Flex Template of the same table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from apache_beam.options.pipeline_options import PipelineOptions
from textmint.pipelines.options.backends import SAFETY_THRESHOLDS, SERVICE_TIERS
from textmint.transforms.core.attributes import CLARITIES, DIFFICULTIES, NUM_WORDS
from textmint.transforms.core.prompt_template import BRAINSTORM_VARIABLES, EXAMPLE_VARIABLES
from textmint.transforms.dedup.minhash import TASK_THRESHOLD, THRESHOLD
from textmint.transforms.dedup.verdicts import DUPLICATE_CHECKS
from textmint.transforms.llm.reject_rate import MOST
from textmint.transforms.llm.sampling import MAX_REPLY_BYTES
from textmint.transforms.quality.checks import CHECKS, Checks

LABELS: Final = "--labels"
"""What users type for `LABEL_PLAN`."""
LABEL_PLAN: Final = "--label_plan"
"""What `--labels` is called inside, because Beam has an option of that name too."""
GROUPS: Final = ("data", "quality", "model", "output")
"""The titles of the groups of the table, in its order."""
_CHECKS: Final = Checks()


def _true_or_false(text: str) -> bool:
    """What stands after `--verify=` and the like -> whether it is true. A template passes every option with a value."""
    word = text.casefold()
    if word not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return word == "true"


_SWITCH: Final[Mapping[str, Any]] = {
    "nargs": "?",
    "const": True,  # bare
    "default": False,
    "type": _true_or_false,
    "metavar": "true|false",
}


class GenerateOptions(PipelineOptions):
    """The options of the main job, in Beam's flag style."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        data = parser.add_argument_group("data")
        data.add_argument(
            "--tasks",
            metavar="PATTERN",
            help="your own tasks, instead of brainstormed ones: a file or pattern; .txt (a task a line, # begins a "
            "comment), .jsonl or .parquet (with a column `task`, and where you want `labels`, `language`, `examples`), "
            ".txt.gz, .jsonl.gz",
        )
        data.add_argument(
            "--task_requests", type=int, default=5, metavar="N", help="brainstorm prompts; each brings about 20 tasks"
        )
        data.add_argument("--max_tasks", type=int, metavar="N", help="keep at most N tasks (default: all)")
        data.add_argument(
            "--examples_per_task",
            type=int,
            default=3,
            metavar="N",
            help="examples asked for a task, where its file does not say how many",
        )
        data.add_argument(
            "--language",
            metavar="CHOICE",
            help="a language, or several with optional weights: English:0.5,German:0.3,Thai; or xlm-r: the 100 of "
            "XLM-R, weighted as in arXiv 2401.00368 (default: English)",
        )
        data.add_argument(
            "--difficulty",
            metavar="CHOICE",
            help=f"one or several of: {', '.join(DIFFICULTIES)} (default: all, evenly)",
        )
        data.add_argument(
            "--clarity", metavar="CHOICE", help=f"one or several of: {', '.join(CLARITIES)} (default: all, evenly)"
        )
        data.add_argument(
            "--num_words",
            metavar="CHOICE",
            help=f"one or several of: {', '.join(NUM_WORDS)} (default: all, evenly); or any: say nothing of length",
        )
        data.add_argument(
            "--topics",
            metavar="FILE",
            help="fields of life, a line each, that brainstorm rounds are steered to; none: the paper's bare prompt "
            "(default: the list that comes with textmint)",
        )
        data.add_argument(
            "--brainstorm_template",
            metavar="FILE",
            help=f"your own Jinja template; variables: {', '.join(BRAINSTORM_VARIABLES)}",
        )
        data.add_argument(
            "--example_template",
            metavar="FILE",
            help=f"your own Jinja template; variables: {', '.join(EXAMPLE_VARIABLES)}",
        )
        data.add_argument(
            LABEL_PLAN,
            default="free",
            metavar="HOW",
            help="free: the model chooses the labels of each text, as in the paper; planned: it is asked once a task "
            "for 2 to 20 labels, which are spread evenly over the task's examples. Either way labels of --tasks are "
            "used as they are",
        )
        data.add_argument("--seed", type=int, default=42, metavar="N", help="another seed, other data")
        data.add_argument("--config", metavar="FILE", help="read options from a YAML file; flags win over it")

        quality = parser.add_argument_group("quality")
        quality.add_argument(
            "--checks",
            default="all",
            metavar="LIST",
            help="what an example must pass: all, none, or names joined by commas: "
            f"{', '.join((*CHECKS, *DUPLICATE_CHECKS))}. What is refused becomes a reject whose reason is the check's "
            "name",
        )
        quality.add_argument(
            "--length_slack",
            type=float,
            default=_CHECKS.length_slack,
            metavar="X",
            help="refuse a text this many times shorter or longer than num_words asks for; models count badly",
        )
        quality.add_argument(
            "--max_label_columns",
            type=int,
            default=_CHECKS.max_label_columns,
            metavar="N",
            help="widest label; an East Asian character counts two",
        )
        quality.add_argument(
            "--language_min_confidence",
            type=float,
            default=_CHECKS.language_min_confidence,
            metavar="X",
            help="how sure the identifier must be to refuse a text for its language; below it nothing is said",
        )
        quality.add_argument(
            "--near_duplicate_threshold",
            type=float,
            default=THRESHOLD,
            metavar="X",
            help="two texts this alike, or more, are near copies: Jaccard similarity of their runs of three words, or "
            "of five characters where words are not spaced",
        )
        quality.add_argument(
            "--task_near_duplicate_threshold",
            type=float,
            default=TASK_THRESHOLD,
            metavar="X",
            help="the same for tasks, where one word can make another task",
        )
        quality.add_argument(
            "--verify",
            **_SWITCH,
            help="ask which of its two labels fits each text; where the answer is not the label, the row is rejected "
            "as label_disputed. One more request an example",
        )
        quality.add_argument(
            "--verify_model",
            metavar="NAME",
            help="the model that --verify asks, of the same --llm and endpoint (default: --model)",
        )
        quality.add_argument(
            "--exclude",
            metavar="PATTERN",
            help="texts that no example may share, such as the test splits of a benchmark: a file or pattern; .txt (a "
            "text a line), .jsonl or .parquet (column `text`, or all that hold strings), or .gz of these",
        )

        model = parser.add_argument_group("model")
        model.add_argument(
            "--llm",
            default="offline",
            metavar="NAME",
            help="who answers. gemini: Gemini on Vertex AI, or the Gemini API with GEMINI_API_KEY; openai: any "
            "OpenAI-compatible chat endpoint, with OPENAI_API_KEY where it wants one; vertex-endpoint: a model "
            "deployed to a Vertex AI endpoint; offline: an embedded author for trying the pipeline, whose rows are not "
            "for training",
        )
        model.add_argument("--model", metavar="NAME", help="the model's name, as the endpoint knows it")
        model.add_argument("--base_url", metavar="URL", help="the endpoint, such as http://127.0.0.1:8000/v1 for vLLM")
        model.add_argument(
            "--api_key_secret",
            metavar="VERSION",
            help="of openai, and of gemini without a project: the key's place in Secret Manager, "
            "projects/PROJECT/secrets/NAME/versions/NUMBER, from where each worker process fetches it; .../latest "
            "works too, a number is reproducible. Vertex AI takes no key but the workers' service account",
        )
        model.add_argument(
            "--vertex_project", metavar="ID", help="Google Cloud project of the model (default: Beam's --project)"
        )
        model.add_argument(
            "--vertex_location",
            metavar="REGION",
            help="region of the model, or global (default: Beam's --region, else global for Gemini)",
        )
        model.add_argument(
            "--vertex_endpoint", metavar="ID", help="of --llm=vertex-endpoint: a number or projects/.../endpoints/..."
        )
        model.add_argument("--temperature", type=float, default=1.0, metavar="X", help="0 to 2")
        model.add_argument("--top_p", type=float, default=1.0, metavar="X", help="above 0, up to 1")
        model.add_argument(
            "--max_output_tokens",
            type=int,
            metavar="N",
            help="tokens of a reply at most (default: the model's own limit)",
        )
        model.add_argument(
            "--max_reply_bytes",
            type=int,
            default=MAX_REPLY_BYTES,
            metavar="N",
            help="a reply that is larger, decompressed, is rejected unread",
        )
        model.add_argument(
            "--thinking_budget", type=int, metavar="N", help="of Gemini: tokens for thinking; 0: none, -1: it decides"
        )
        model.add_argument(
            "--safety_threshold",
            metavar="NAME",
            help=f"of Gemini, for every kind of harm: {', '.join(SAFETY_THRESHOLDS)} (default: the model's own)",
        )
        model.add_argument(
            "--service_tier",
            metavar="NAME",
            help=f"of Gemini: {', '.join(SERVICE_TIERS)} (default: the account's own); flex is slower and cheaper",
        )
        model.add_argument(
            "--structured_output",
            default="auto",
            metavar="WHEN",
            help="auto: ask for JSON of the right structure where the endpoint has that; never: the prompt alone",
        )
        model.add_argument(
            "--max_concurrency", type=int, default=64, metavar="N", help="requests in flight in one worker process"
        )
        model.add_argument(
            "--requests_per_minute", type=float, metavar="X", help="of one worker process at most (default: no cap)"
        )
        model.add_argument(
            "--tokens_per_minute",
            type=float,
            metavar="X",
            help="of one worker process at most, prompts and replies together (default: no cap)",
        )
        model.add_argument(
            "--request_timeout", type=float, default=120.0, metavar="SECONDS", help="that one try may take"
        )
        model.add_argument(
            "--max_attempts", type=int, default=5, metavar="N", help="tries of a request that fails or times out"
        )
        model.add_argument(
            "--parse_attempts",
            type=int,
            default=2,
            metavar="N",
            help="times that a prompt is asked at most because its reply could not be read",
        )
        model.add_argument(
            "--max_reject_rate",
            type=float,
            default=MOST,
            metavar="X",
            help="end the run, with what was paid for kept, when more than this share of the last 500 replies of a "
            "worker process was refused; never before it has 200. 1: never. Replies from the ledger do not count",
        )
        model.add_argument(
            "--retry_rejects",
            **_SWITCH,
            help="ask again for examples and tasks whose replies could not be read in an earlier run of the label; "
            "without it their paid replies stay rejected. What failed without a reply is asked for again in any case",
        )
        model.add_argument(
            "--offline_fault_rate",
            type=float,
            default=0.0,
            metavar="X",
            help="share of bad replies that the embedded author plays, 0 to 1, to see what becomes of them",
        )

        output = parser.add_argument_group("output")
        output.add_argument(
            "--output", default="output", metavar="DIR", help="the dataset folder: a local path, gs://, s3://, ..."
        )
        output.add_argument(
            "--refresh",
            default="base",
            metavar="LABEL",
            help="the label that this run's data stands under, such as 2026-11-23, or today: the day of the launch in "
            "UTC; a run of the same label replaces it, another label adds to the dataset what it does not have yet",
        )
        output.add_argument(
            "--recompute",
            **_SWITCH,
            help="run even where the label's data is complete and nothing has changed that decides a row; it pays for "
            "nothing twice all the same",
        )
        output.add_argument(
            "--rebuy",
            **_SWITCH,
            help="go on where replies that were paid for are missing in the ledger or damaged, and pay again for those "
            "that are needed; without it such a run stops before it pays",
        )
        output.add_argument(
            "--replace",
            **_SWITCH,
            help="publish the run though it has fewer examples than its label; without it that is refused",
        )
        output.add_argument(
            "--license",
            metavar="ID",
            help="the license that the dataset card names, such as cc-by-4.0 (default: unknown)",
        )
        output.add_argument(
            "--push_to_hub",
            metavar="OWNER/NAME",
            help="upload the dataset when it is complete, with HF_TOKEN from the environment; needs the extra `hub`",
        )
        output.add_argument("--keep_raw", **_SWITCH, help="keep each reply as it came, in column raw_reply")


def own_actions() -> list[argparse.Action]:
    """-> the options of the table, in its order."""
    parser = argparse.ArgumentParser(add_help=False)
    GenerateOptions._add_argparse_args(parser)
    return parser._actions


def is_switch(action: argparse.Action) -> bool:
    """An option of the table -> whether it is on or off, and may stand without a value."""
    return action.const is True
