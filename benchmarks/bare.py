"""The floor: the least Python that asks an endpoint for rows, N requests in flight. A program of its own.

For the OpenAI protocol it is plain aiohttp, for Gemini google-genai with its defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

Ask = Callable[[int, str], Awaitable[str]]
Prompts = Iterator[tuple[int, str]]


def main(argv: Sequence[str] | None = None) -> None:
    """Asks, then prints {"kept": how many were answered}."""
    parser = argparse.ArgumentParser(description="A bare loop over a client.", allow_abbrev=False)
    parser.add_argument("--protocol", choices=["openai", "gemini"], required=True)
    parser.add_argument("--base_url", required=True)
    parser.add_argument("--prompts", required=True, help="the file that benchmarks.prompts writes")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args(argv)
    with open(options.prompts, encoding="utf-8") as file:
        frame = json.loads(file.readline())
        prompts = [json.loads(line) for line in itertools.islice(file, options.rows)]
    loop = {"openai": _over_aiohttp, "gemini": _over_genai}[options.protocol]
    kept = asyncio.run(loop(options.base_url, frame, enumerate(prompts), options.concurrency))
    print(json.dumps({"kept": kept}))


async def _over_aiohttp(base_url: str, frame: dict[str, Any], prompts: Prompts, concurrency: int) -> int:
    import aiohttp

    url = f"{base_url}/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(number: int, prompt: str) -> str:
            body = {**frame, "messages": [{"role": "user", "content": prompt}], "seed": number}
            async with session.post(url, json=body) as response:
                response.raise_for_status()
                reply = await response.json()
            return str(reply["choices"][0]["message"]["content"])

        return await _keep_asking(ask, prompts, concurrency)


async def _over_genai(base_url: str, frame: dict[str, Any], prompts: Prompts, concurrency: int) -> int:
    from google import genai
    from google.genai import types

    client = genai.Client(http_options=types.HttpOptions(base_url=base_url))

    async def ask(_: int, prompt: str) -> str:
        reply = await client.aio.models.generate_content(model=frame["model"], contents=prompt)
        return reply.text or ""

    try:
        return await _keep_asking(ask, prompts, concurrency)
    finally:
        await client.aio.aclose()


async def _keep_asking(ask: Ask, prompts: Prompts, concurrency: int) -> int:
    """Counts the prompts that are answered with a text, by `concurrency` workers that share them."""

    async def worker() -> int:
        kept = 0
        for number, prompt in prompts:
            kept += bool(await ask(number, prompt))
        return kept

    return sum(await asyncio.gather(*(worker() for _ in range(concurrency))))


if __name__ == "__main__":
    main()
