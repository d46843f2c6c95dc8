"""URLs as users type them: how they are shown without what may be a secret, and through which proxy they are asked."""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from typing import Final
from urllib.parse import unquote, urlsplit

from textmint.transforms.llm.base import FatalError
from textmint.transforms.llm.redaction import secret_pattern

PROXY_REMEDY: Final = "check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or name the endpoint's host in NO_PROXY"
PASS_PROXY: Final = "set HTTPS_PROXY or HTTP_PROXY to a proxy that lets you in, with user and password"

_PARAMETER: Final = re.compile(
    r"((?:[\w-]*[_-])?(?:key|token|secret|password|passwd|pwd|pass|sig|signature|auth\w*|credentials?)=)[^&;/\s]+", re.I
)
_SCHEME: Final = re.compile(r"(?:https?|ftp|file|socks\w{0,2}):[/\\]+|https?:(?!\d+(?:[/?#]|$))", re.I)
"""Of a known kind only: what stands before a colon may be a user's name."""
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:/\\]*)(:\d{0,5}(?=[/\\]|$)|)")


def shown_url(url: str) -> str:
    """Redacts what was typed as a URL, however malformed: `...` stands for a user name, a password, a query, a fragment
    or a key."""
    start = _SCHEME.match(url)
    scheme = start[0] if start else ""
    rest = url[len(scheme) :]
    # A password may hold any character, so all before the last @ is taken for one.
    _, at, rest = re.sub("%40", "@", rest, flags=re.I).rpartition("@")
    head = re.split(r"[?#]", rest, maxsplit=1)
    place = head[0]
    authority = _AUTHORITY.match(place)
    end = authority.end() if authority else 0
    if place[end:] and place[end] == ":":  # no port stands there
        place = f"{place[:end]}:..."
    place = secret_pattern().sub("...", _PARAMETER.sub(r"\1...", place))
    return f"{scheme}{'...@' if at else ''}{place}{'?...' if len(head) > 1 else ''}"


def holds_secret(url: str) -> bool:
    """Tells whether a URL, well-formed or not, has a user name, a password or a key in it."""
    return "@" in unquote(url) or bool(_PARAMETER.search(url) or secret_pattern().search(unquote(url)))


def is_http_url(url: str) -> bool:
    """Tells whether a URL is absolute, of http or https, with a host, and a port that can be where there is one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not re.search(r"\s", url)


def proxy_for(url: str) -> str | None:
    """Finds the proxy that the environment names for a URL: HTTP_PROXY, HTTPS_PROXY, or else ALL_PROXY, in lower case
    or upper case, unless NO_PROXY exempts its host. The names of this machine are never asked through one: a proxy
    would get the key, and answer for another machine. On macOS and Windows the system's settings count too.

    It is looked up once a session: aiohttp's own `trust_env` does it on a thread at each request, and knows neither
    ALL_PROXY nor networks in NO_PROXY. A proxy of another kind than http raises a FatalError that does not quote it.
    """
    named = urllib.request.getproxies()
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    kind = parts.scheme if named.get(parts.scheme) else "all"
    proxy = (named.get(kind) or "").strip()
    if not proxy or _is_here(host) or is_exempt(host, port, named.get("no") or "") or urllib.request.proxy_bypass(host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        found = urlsplit(proxy)
        is_one = found.scheme.lower() in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        variable = f"{kind.upper()}_PROXY"
        raise FatalError(f"{variable} names no http proxy", f"set {variable} to http://HOST:PORT, or unset it")
    return proxy


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return address is not None and any(each.is_loopback or each.is_unspecified for each in (address, mapped or address))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


_ENTRY: Final = re.compile(r"\[([^\]]*)\](?::(\d+))?|([^:]*):(\d+)|(.*)")


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Tells whether NO_PROXY exempts a host, in lower case and without brackets, as curl and requests read it: names,
    which stand for their subdomains too, addresses and networks, each with or without a port; `*` is all."""
    address = _address(host)
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        found = _ENTRY.fullmatch(entry)
        if entry == "*":
            return True
        if not entry or found is None:
            continue
        name = found[1] or found[3] or found[5] or ""
        wanted = found[2] or found[4]
        if wanted and int(wanted) != port:
            continue
        try:
            network = ipaddress.ip_network(name, strict=False)
        except ValueError:
            name = name.lstrip("*").strip(".")
            if name and (host == name or host.endswith(f".{name}")):
                return True
        else:
            if address is not None and address in network:
                return True
    return False
