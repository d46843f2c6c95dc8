"""What one writes first: a Beam pipeline whose DoFn waits for the vendor's client, an element at a time. A program of
its own."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


class Ask(beam.DoFn):
    """A prompt -> the text of its reply."""

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
            reply = self._client.chat.completions.create(
                model=self._model, messages=[{"role": "user", "content": prompt}]
            )
            yield reply.choices[0].message.content
        else:
            yield self._client.models.generate_content(model=self._model, contents=prompt).text


def main(argv: Sequence[str] | None = None) -> None:
    """Arguments of the command line -> a file of replies, and {"kept": how many}, printed."""
    parser = argparse.ArgumentParser(description="A naive Beam pipeline.", allow_abbrev=False)
    parser.add_argument("--protocol", choices=["openai", "gemini"], required=True)
    parser.add_argument("--base_url", required=True)
    parser.add_argument("--prompts", required=True, help="the file that benchmarks.prompts writes")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--output", required=True, help="a file")
    options = parser.parse_args(argv)
    with open(options.prompts, encoding="utf-8") as file:
        model = json.loads(file.readline())["model"]
        prompts = [json.loads(line) for line in itertools.islice(file, options.rows)]
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        _ = (
            pipeline
            | beam.Create(prompts)
            | beam.ParDo(Ask(options.protocol, options.base_url, model))
            | beam.Map(json.dumps)
            | beam.io.WriteToText(options.output, shard_name_template="")
        )
    with open(options.output, encoding="utf-8") as file:
        print(json.dumps({"kept": sum(1 for _ in file)}))


if __name__ == "__main__":
    main()
