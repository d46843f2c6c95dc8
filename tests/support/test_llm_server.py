"""The endpoint for tests, over real sockets: what it says in each protocol, what it plays, and what it counts."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import pytest

from tests.support import llm_server
from tests.support.llm_server import LlmServer, Options, draw, prompt_digest, reply_text

EXAMPLE = 'Write one example as a JSON object with the keys "input_text", "label", "misleading_label". Round '
KEY = "sk-abcdefghijklmnop1234"
PLACE = "/v1/projects/p/locations/l"
PATHS = {
    "openai": "/v1/chat/completions",
    "gemini": "/v1beta/models/m:generateContent",
    "vertex": f"{PLACE}/publishers/google/models/m:generateContent",
    "chat": f"{PLACE}/endpoints/7/chat/completions",
    "predict": f"{PLACE}/endpoints/7:predict",
}
NO_REPLY = (
    aiohttp.ClientError,
    asyncio.TimeoutError,
    ConnectionError,
)  # Python 3.10 has two errors for time that is up
GOOGLE = ("gemini", "vertex", "chat", "predict")


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


@dataclasses.dataclass(frozen=True)
class Got:
    """What came back: the name of the exception where no reply did."""

    status: int
    headers: dict[str, str]
    text: str
    error: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def body_of(protocol: str, prompt: str) -> dict[str, Any]:
    if protocol in ("gemini", "vertex"):
        return {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
    if protocol == "predict":
        return {"instances": [{"prompt": prompt, "max_tokens": 100}]}
    return {"model": "m", "messages": [{"role": "user", "content": prompt}]}


def text_of(protocol: str, value: Any) -> str:
    if protocol in ("gemini", "vertex"):
        found = value["candidates"][0]["content"]["parts"][0]["text"]
    elif protocol == "predict":
        found = value["predictions"][0]
    else:
        found = value["choices"][0]["message"]["content"]
    assert isinstance(found, str)
    return found


def ask_all(
    server: LlmServer, protocol: str, prompts: Sequence[str], *, at_once: int = 1, timeout: float = 10
) -> list[Got]:
    async def run() -> list[Got]:
        window = asyncio.Semaphore(at_once)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session:

            async def one(prompt: str) -> Got:
                body = body_of(protocol, prompt)
                try:
                    async with window, session.post(server.base_url + PATHS[protocol], json=body) as reply:
                        headers = {name.lower(): value for name, value in reply.headers.items()}
                        return Got(reply.status, headers, await reply.text())
                except NO_REPLY as error:
                    return Got(0, {}, "", type(error).__name__)

            return await asyncio.gather(*map(one, prompts))

    return asyncio.run(run())


def ask(server: LlmServer, protocol: str, prompt: str = EXAMPLE, **more: Any) -> Got:
    return ask_all(server, protocol, [prompt], **more)[0]


# ------------------------------------------------------------------------------------------------------- good replies


@pytest.mark.parametrize("protocol", PATHS)
def test_an_example_in_each_protocol(server: LlmServer, protocol: str) -> None:
    server.reset()
    got = ask(server, protocol)
    assert got.status == 200, got
    text = text_of(protocol, got.json)
    example = json.loads(text)
    assert list(example) == ["input_text", "label", "misleading_label"]
    assert all(isinstance(value, str) and value for value in example.values())
    assert example["label"] != example["misleading_label"]
    assert text == reply_text(EXAMPLE, prompt_digest(EXAMPLE))
    assert server.stats()["by_protocol"] == {protocol: 1}


def google_error(protocol: str, got: Got) -> Any:
    value = got.json[0] if protocol == "chat" else got.json
    assert value["error"]["code"] == got.status
    return value["error"]


def details(error: Any) -> dict[str, Any]:
    return {each["@type"].rpartition(".")[2]: each for each in error.get("details", [])}


def test_how_long_to_wait(server: LlmServer) -> None:
    server.reset(rate_429=1, retry_after=3)
    got = {protocol: ask(server, protocol) for protocol in ("openai", "gemini", "vertex", "chat", "predict")}
    assert {name for name, each in got.items() if each.headers.get("retry-after") == "3"} == {
        "openai",
        "chat",
        "predict",
    }
    assert all("retry-after" not in got[protocol].headers for protocol in ("gemini", "vertex"))
    for protocol in GOOGLE:
        assert details(google_error(protocol, got[protocol]))["RetryInfo"]["retryDelay"] == "3s"
    server.reset(rate_429=1, retry_after=0.25)
    assert details(google_error("vertex", ask(server, "vertex")))["RetryInfo"]["retryDelay"] == "0.25s"
    assert ask(server, "openai").headers["retry-after"] == "0.25"
    server.reset(rate_429=1, retry_after=60, retry_after_form="date")
    moment = email.utils.parsedate_to_datetime(ask(server, "openai").headers["retry-after"])
    assert 50 < moment.timestamp() - time.time() < 61


@pytest.mark.parametrize("protocol", ["openai", "gemini"])
def test_bodies_that_are_broken(server: LlmServer, protocol: str) -> None:
    server.reset(rate_html=1)
    got = ask(server, protocol)
    assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert got.text.startswith("<!DOCTYPE html>")
    server.reset(rate_malformed=1)
    got = ask(server, protocol)
    assert got.status == 200
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(got.text)
    server.reset(rate_half=1)
    assert ask(server, protocol).error == "ClientPayloadError"
    stats = server.stats()
    assert (stats["by_outcome"], stats["by_status"], stats["answered"]) == ({"half": 1}, {}, 0)
    assert stats["in_flight"] == 0


def test_resets(server: LlmServer) -> None:
    server.reset(rate_reset=1)
    errors = {got.error for got in ask_all(server, "openai", [EXAMPLE + str(at) for at in range(20)])}
    # before the first byte, and in the middle of the body
    assert "" not in errors
    assert "ClientPayloadError" in errors or "ClientOSError" in errors
    assert server.stats()["by_outcome"] == {"reset": 20}
    variants = {draw(Options(rate_reset=1), prompt_digest(EXAMPLE + str(at)), 0).variant % 2 for at in range(20)}
    assert variants == {0, 1}
    with socket.create_connection(("127.0.0.1", server.port)) as raw, pytest.raises(ConnectionResetError):
        body = json.dumps(body_of("openai", EXAMPLE)).encode()
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while raw.recv(4096):
            pass
        raise AssertionError("FIN where RST was due")


def test_hangs(server: LlmServer) -> None:
    server.reset(rate_hang=1)
    assert ask(server, "openai", timeout=0.15).error.endswith("TimeoutError")
    stats = wait_for(server, "gave_up", 1)
    assert (stats["by_outcome"], stats["in_flight"], stats["answered"]) == ({"hang": 1}, 0, 0)
    # a reset lets go of what still hangs
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        body = json.dumps(body_of("openai", EXAMPLE)).encode()
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert wait_for(server, "in_flight", 1)["max_in_flight"] == 1
        server.reset()
        assert raw.recv(10) == b""
    assert server.stats()["in_flight"] == 0


def wait_for(server: LlmServer, name: str, value: int) -> dict[str, Any]:
    for _ in range(200):
        stats = server.stats()
        if stats[name] == value:
            return stats
        time.sleep(0.01)
    raise AssertionError(f"{name} is {stats[name]}, not {value}")


MIXED: dict[str, Any] = {
    "rate_429": 0.1,
    "rate_500": 0.1,
    "rate_503": 0.1,
    "rate_reset": 0.05,
    "rate_half": 0.05,
    "rate_html": 0.1,
    "rate_malformed": 0.1,
    "rate_blocked": 0.05,
    "rate_truncated": 0.05,
    "rate_bad_reply": 0.05,
}


def test_what_happens_repeats_in_any_order(server: LlmServer) -> None:
    prompts = [EXAMPLE + str(at) for at in range(150)]
    runs = []
    for order, at_once in ((prompts, 1), (prompts[::-1], 20)):
        server.reset(**MIXED)
        found: dict[str, list[tuple[int, str, bool]]] = {}
        for _ in range(2):
            for prompt, got in zip(order, ask_all(server, "gemini", order, at_once=at_once), strict=True):
                found.setdefault(prompt, []).append((got.status, got.text, bool(got.error)))
        runs.append((found, server.stats()["by_outcome"]))
    assert runs[0] == runs[1]
    drawn = [
        draw(Options(**MIXED), prompt_digest(prompt), visit).fault or "ok" for visit in (0, 1) for prompt in prompts
    ]
    assert runs[0][1] == {fault: drawn.count(fault) for fault in set(drawn)}
    assert any(found[0] != found[1] for found in runs[0][0].values())
    other = Options(**MIXED, seed=1)
    assert drawn[:150] != [draw(other, prompt_digest(prompt), 0).fault or "ok" for prompt in prompts]


def test_rates_are_kept() -> None:
    options = Options(**MIXED, latency_median_ms=200, latency_sigma=0.6)
    drawn = [draw(options, prompt_digest(str(at)), 0) for at in range(8_000)]
    for fault in llm_server.FAULTS:
        share = sum(each.fault == fault for each in drawn) / len(drawn)
        assert abs(share - getattr(options, f"rate_{fault}")) < 0.015
    assert statistics.median(each.latency_s for each in drawn) == pytest.approx(0.2, rel=0.03)
    assert statistics.fmean(each.latency_s for each in drawn) == pytest.approx(
        0.2 * 2.718281828 ** (0.36 / 2), rel=0.03
    )


def test_a_limit_of_requests_a_second(server: LlmServer) -> None:
    server.reset(limit_rps=20, limit_burst=3, retry_after=1)
    began = time.monotonic()
    got = ask_all(server, "openai", [EXAMPLE + str(at) for at in range(60)], at_once=10)
    spent = time.monotonic() - began
    let_in = sum(each.status == 200 for each in got)
    assert 3 <= let_in <= 3 + 20 * spent + 1
    assert {each.headers["retry-after"] for each in got if each.status == 429} == {"1"}
    time.sleep(0.1)
    assert ask(server, "openai").status == 200
    assert server.stats()["by_outcome"] == {"ok": let_in + 1, "limit_rps": 60 - let_in}


def test_what_is_counted(server: LlmServer) -> None:
    server.reset(latency_median_ms=60)
    ask(server, "openai", "alone")
    ask_all(server, "openai", ["a", "b", "c", "c"], at_once=4)
    stats = server.stats()
    assert stats["requests"] == 5
    assert stats["by_status"] == {"200": 5}
    assert stats["paid_twice"] == stats["good_twice"] == 1
    assert stats["answered"] == 5
    assert stats["max_in_flight"] == 4
    # the first request was alone, the second found nobody either, the third found the second
    assert stats["first_three_in_flight"] == [0, 0, 1]
    assert sum(second["requests"] for second in stats["by_second"].values()) == 5
    assert sum(second.get("200", 0) for second in stats["by_second"].values()) == 5
    assert stats["cpu_s"] > 0
    server.reset()
    stats = server.stats()
    assert (stats["requests"], stats["by_outcome"]) == (0, {})


def test_bytes_may_come_in_any_pieces(server: LlmServer) -> None:
    server.reset()
    body = json.dumps(body_of("openai", EXAMPLE)).encode()
    plain = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:%d\r\n\r\n%b" % (len(body), body)
    last = plain.replace(b"Host: x", b"Connection: close")
    wanted = None
    for sizes in (1_000_000, 700, 1):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent = plain + plain + last
            for at in range(0, len(sent), sizes):
                raw.sendall(sent[at : at + sizes])
            received = b""
            while piece := raw.recv(65536):
                received += piece
        replies = received.split(b"HTTP/1.1 200 OK\r\n")
        assert len(replies) == 4
        assert len(set(replies[1:])) == 1
        wanted = wanted or received
        assert received == wanted
    assert server.stats()["by_status"] == {"200": 9}


def gone(pid: int) -> bool:
    for _ in range(300):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:
                # a process that nobody has waited for yet is over, too
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    return False


def test_it_ends_on_sigterm_and_with_its_parent() -> None:
    path = os.path.abspath(llm_server.__file__)
    process = subprocess.Popen([sys.executable, path, "--rate_500=1", "--quota_zero"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert list(json.loads(process.stdout.readline())) == ["port"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, {path!r}], stdout=subprocess.PIPE); "
    code += "p.stdout.readline(); print(p.pid)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=20)
    assert gone(int(found.stdout))
    failed = subprocess.run([sys.executable, path, "--rate_500=2"], capture_output=True, check=False, timeout=20)
    assert failed.returncode == 2
    assert b"each rate lies in [0, 1]" in failed.stderr
    with LlmServer() as running:
        pid = running.process.pid
    assert gone(pid)
    running.stop()


def test_the_real_clients_understand_it(server: LlmServer) -> None:
    import openai
    from google import genai
    from google.auth.credentials import AnonymousCredentials
    from google.genai import errors, types

    wanted = reply_text(EXAMPLE, prompt_digest(EXAMPLE))

    async def through_openai() -> None:
        client = openai.AsyncOpenAI(
            api_key=KEY, base_url=server.base_url + "/v1", max_retries=0, http_client=openai.DefaultAioHttpClient()
        )
        async with client:
            server.reset(require_key=KEY)
            messages: Any = [{"role": "user", "content": EXAMPLE}]
            reply = await client.chat.completions.create(model="m", messages=messages)
            assert reply.choices[0].message.content == wanted
            assert reply.usage is not None
            assert reply.usage.prompt_tokens == llm_server.count_tokens(EXAMPLE)
            for options, kind in (
                ({"require_key": "another"}, openai.AuthenticationError),
                ({"model_known": "another"}, openai.NotFoundError),
                ({"rate_429": 1, "retry_after": 2}, openai.RateLimitError),
                ({"rate_500": 1}, openai.InternalServerError),
                ({"rate_reset": 1}, openai.APIConnectionError),
            ):
                server.reset(**options)
                with pytest.raises(kind):
                    await client.chat.completions.create(model="m", messages=messages)

    async def through_gemini(client: genai.Client) -> None:
        server.reset()
        config = types.GenerateContentConfig(
            response_mime_type="application/json", response_schema={"type": "OBJECT", "properties": {}}
        )
        reply = await client.aio.models.generate_content(model="m", contents=EXAMPLE, config=config)
        assert reply.text == wanted
        assert reply.model_version == "m"
        assert reply.usage_metadata is not None
        assert reply.usage_metadata.prompt_token_count == llm_server.count_tokens(EXAMPLE)
        assert server.stats()["structured"] == 1
        assert server.stats()["key_in_url"] is False
        server.reset(rate_blocked=1, blocked_as="safety")
        reply = await client.aio.models.generate_content(model="m", contents=EXAMPLE)
        assert reply.candidates is not None
        assert reply.candidates[0].finish_reason == types.FinishReason.SAFETY
        server.reset(rate_blocked=1, blocked_as="prompt")
        reply = await client.aio.models.generate_content(model="m", contents=EXAMPLE)
        assert reply.prompt_feedback is not None
        assert reply.prompt_feedback.block_reason is not None
        server.reset(rate_429=1, retry_after=3)
        with pytest.raises(errors.ClientError) as raised:
            await client.aio.models.generate_content(model="m", contents=EXAMPLE)
        assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")
        assert details(raised.value.details["error"])["RetryInfo"]["retryDelay"] == "3s"
        await client.aio.aclose()

    asyncio.run(through_openai())
    http = types.HttpOptions(base_url=server.base_url)
    asyncio.run(through_gemini(genai.Client(api_key=KEY, http_options=http)))
    assert server.stats()["by_protocol"] == {"gemini": 1}
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    credentials.token = "stand-in"
    vertex = genai.Client(vertexai=True, project="p", location="l", credentials=credentials, http_options=http)
    asyncio.run(through_gemini(vertex))
    assert server.stats()["by_protocol"] == {"vertex": 1}
    assert server.recent()[-1]["headers"]["authorization"] == "Bearer stand-in"
