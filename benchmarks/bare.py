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


class Failed(Exception):
    """A request that was answered with 429 or 5xx."""


def main(argv: Sequence[str] | None = None) -> None:
    """Arguments of the command line -> asks, then prints {"kept": how many were answered}."""
    parser = argparse.ArgumentParser(description="A bare loop over a client.", allow_abbrev=False)
    parser.add_argument("--protocol", choices=["openai", "gemini"], required=True)
    parser.add_argument("--base_url", required=True)
    parser.add_argument("--prompts", required=True, help="the file that benchmarks.prompts writes")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--backoff", action="store_true", help="sleep 1, 2, 4, 8 s after 429 and 5xx, then give up")
    options = parser.parse_args(argv)
    loop = {"openai": over_aiohttp, "gemini": over_genai}[options.protocol]
    with open(options.prompts, encoding="utf-8") as file:
        frame = json.loads(file.readline())
        prompts = enumerate(map(json.loads, itertools.islice(file, options.rows)))
        kept = asyncio.run(loop(options.base_url, frame, prompts, options.concurrency, options.backoff))
    print(json.dumps({"kept": kept}))


async def over_aiohttp(
    base_url: str, frame: dict[str, Any], prompts: Iterator[tuple[int, str]], concurrency: int, backoff: bool
) -> int:
    """Numbered prompts -> how many an OpenAI chat endpoint answered.

    Args:
      base_url: up to and without /chat/completions.
      frame: the fields of a body that are always the same.
      concurrency: requests in flight.
      backoff: wait and try again after 429 and 5xx.

    Raises:
      Failed: a 429 or 5xx, without `backoff`.
    """
    import aiohttp

    url = f"{base_url}/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(number: int, prompt: str) -> str:
            body = {**frame, "messages": [{"role": "user", "content": prompt}], "seed": number}
            async with session.post(url, json=body) as response:
                if response.status == 429 or response.status >= 500:
                    raise Failed(f"status {response.status}")
                response.raise_for_status()
                reply = await response.json()
            return str(reply["choices"][0]["message"]["content"])

        return await keep_asking(ask, prompts, concurrency, backoff)


async def over_genai(
    base_url: str, frame: dict[str, Any], prompts: Iterator[tuple[int, str]], concurrency: int, backoff: bool
) -> int:
    """The same as `over_aiohttp`, for Gemini; of `frame` only the model counts."""
    from google import genai
    from google.genai import errors, types

    client = genai.Client(http_options=types.HttpOptions(base_url=base_url))
    model = frame["model"]

    async def ask(number: int, prompt: str) -> str:
        try:
            reply = await client.aio.models.generate_content(model=model, contents=prompt)
        except errors.APIError as error:
            if error.code == 429 or (error.code or 0) >= 500:
                raise Failed(f"status {error.code}") from None
            raise
        return reply.text or ""

    try:
        return await keep_asking(ask, prompts, concurrency, backoff)
    finally:
        await client.aio.aclose()


async def keep_asking(ask: Ask, prompts: Iterator[tuple[int, str]], concurrency: int, backoff: bool) -> int:
    """Numbered prompts -> how many were answered with a text, by `concurrency` workers that share them."""

    async def worker() -> int:
        kept = 0
        for number, prompt in prompts:
            kept += bool(await (_ask_again(ask, number, prompt) if backoff else ask(number, prompt)))
        return kept

    return sum(await asyncio.gather(*(worker() for _ in range(concurrency))))


async def _ask_again(ask: Ask, number: int, prompt: str) -> str:
    wait = _FIRST_WAIT
    for _ in range(_ATTEMPTS - 1):
        try:
            return await ask(number, prompt)
        except Failed:
            await asyncio.sleep(wait)
            wait *= 2
    try:
        return await ask(number, prompt)
    except Failed:
        return ""


if __name__ == "__main__":
    main()
