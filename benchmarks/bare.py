"""The floor: the least Python that asks an endpoint for rows, N requests in flight. A program of its own.

For the OpenAI protocol it is plain aiohttp, for Gemini google-genai with its defaults. It does nothing with a reply but
look at its text.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

Ask = Callable[[int, str], Awaitable[str]]

_ATTEMPTS: Final = 5
_FIRST_WAIT: Final = 1.0  # seconds, then doubled: tenacity's example, and the like in many SDKs


class RequestFailed(Exception):
    """A request was answered with 429 or 5xx."""


def parser_of(description: str) -> argparse.ArgumentParser:
    """Makes a parser of what the programs beside the pipeline are told."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--protocol", choices=["openai", "gemini"], required=True)
    parser.add_argument("--base_url", required=True)
    parser.add_argument("--prompts", required=True, help="the file that benchmarks.prompts writes")
    parser.add_argument("--rows", type=int, required=True)
    return parser


def read_prompts(path: str, rows: int) -> tuple[dict[str, Any], list[str]]:
    """Reads the constant part of a body, and so many prompts, from a file of benchmarks.prompts."""
    with open(path, encoding="utf-8") as file:
        return json.loads(file.readline()), [json.loads(line) for line in itertools.islice(file, rows)]


def main(argv: Sequence[str] | None = None) -> None:
    """Asks, then prints {"kept": how many were answered}.

    Args:
      argv: arguments of the command line.
    """
    parser = parser_of("A bare loop over a client.")
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--backoff", action="store_true", help="sleep 1, 2, 4, 8 s after 429 and 5xx, then give up")
    options = parser.parse_args(argv)
    loop = {"openai": over_aiohttp, "gemini": over_genai}[options.protocol]
    frame, prompts = read_prompts(options.prompts, options.rows)
    kept = asyncio.run(loop(options.base_url, frame, enumerate(prompts), options.concurrency, options.backoff))
    print(json.dumps({"kept": kept}))


async def over_aiohttp(
    base_url: str, frame: dict[str, Any], prompts: Iterator[tuple[int, str]], concurrency: int, backoff: bool
) -> int:
    """Asks an OpenAI chat endpoint.

    Args:
      base_url: up to and without /chat/completions.
      frame: the fields of a body that are always the same.
      prompts: each with its number.
      concurrency: requests in flight.
      backoff: wait and try again after 429 and 5xx.

    Returns:
      How many prompts were answered.

    Raises:
      RequestFailed: a 429 or 5xx, without `backoff`.
    """
    import aiohttp

    url = f"{base_url}/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(number: int, prompt: str) -> str:
            body = {**frame, "messages": [{"role": "user", "content": prompt}], "seed": number}
            async with session.post(url, json=body) as response:
                if response.status == 429 or response.status >= 500:
                    raise RequestFailed(f"status {response.status}")
                response.raise_for_status()
                reply = await response.json()
            return str(reply["choices"][0]["message"]["content"])

        return await _keep_asking(ask, prompts, concurrency, backoff)


async def over_genai(
    base_url: str, frame: dict[str, Any], prompts: Iterator[tuple[int, str]], concurrency: int, backoff: bool
) -> int:
    """Asks a Gemini endpoint, as `over_aiohttp` does; of `frame` only the model counts."""
    from google import genai
    from google.genai import errors, types

    client = genai.Client(http_options=types.HttpOptions(base_url=base_url))

    async def ask(number: int, prompt: str) -> str:
        try:
            reply = await client.aio.models.generate_content(model=frame["model"], contents=prompt)
        except errors.APIError as error:
            if error.code == 429 or (error.code or 0) >= 500:
                raise RequestFailed(f"status {error.code}") from None
            raise
        return reply.text or ""

    try:
        return await _keep_asking(ask, prompts, concurrency, backoff)
    finally:
        await client.aio.aclose()


async def _keep_asking(ask: Ask, prompts: Iterator[tuple[int, str]], concurrency: int, backoff: bool) -> int:
    """Counts the prompts that are answered with a text, by `concurrency` workers that share them."""

    async def worker() -> int:
        kept = 0
        for number, prompt in prompts:
            kept += bool(await (_ask_again(ask, number, prompt) if backoff else ask(number, prompt)))
        return kept

    return sum(await asyncio.gather(*(worker() for _ in range(concurrency))))


async def _ask_again(ask: Ask, number: int, prompt: str) -> str:
    for attempt in range(_ATTEMPTS):
        try:
            return await ask(number, prompt)
        except RequestFailed:
            if attempt < _ATTEMPTS - 1:
                await asyncio.sleep(_FIRST_WAIT * 2**attempt)
    return ""


if __name__ == "__main__":
    main()
