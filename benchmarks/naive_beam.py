"""What one writes first: a Beam pipeline whose DoFn waits for the vendor's client, one element after the other. A
program of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.bare import parser_of, read_prompts


class Ask(beam.DoFn):
    """Sends each prompt, and yields the text of its reply."""

    def __init__(self, protocol: str, base_url: str, model: str) -> None:
        self._protocol = protocol
        self._base_url = base_url
        self._model = model
        self._client: Any = None

    def setup(self) -> None:
        """Makes the client, once for a worker."""
        if self._protocol == "openai":
            import openai

            self._client = openai.OpenAI(base_url=self._base_url)
        else:
            from google import genai
            from google.genai import types

            self._client = genai.Client(http_options=types.HttpOptions(base_url=self._base_url))

    def process(self, prompt: str) -> Iterator[str]:
        """Asks, and waits."""
        if self._protocol == "openai":
            messages = [{"role": "user", "content": prompt}]
            reply = self._client.chat.completions.create(model=self._model, messages=messages)
            yield reply.choices[0].message.content
        else:
            yield self._client.models.generate_content(model=self._model, contents=prompt).text


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a file of replies, and prints {"kept": how many}.

    Args:
      argv: arguments of the command line.
    """
    parser = parser_of("A naive Beam pipeline.")
    parser.add_argument("--output", required=True, help="a file")
    options = parser.parse_args(argv)
    frame, prompts = read_prompts(options.prompts, options.rows)
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        _ = (
            pipeline
            | beam.Create(prompts)
            | beam.ParDo(Ask(options.protocol, options.base_url, frame["model"]))
            | beam.Map(json.dumps)
            | beam.io.WriteToText(options.output, shard_name_template="")
        )
    with open(options.output, encoding="utf-8") as file:
        print(json.dumps({"kept": sum(1 for _ in file)}))


if __name__ == "__main__":
    main()
