"""How many connections a process may have open at once. Each process may raise its limit of descriptors up to the hard
one (macOS starts with 256, some Linux systems with 1,024), which all models that it asks share.
"""

from __future__ import annotations

import resource
import threading
from typing import Final

RESERVED: Final = 128
"""For all else that a process has open: files of the ledger and of the data, the engine's own sockets, libraries."""

_lock: Final = threading.Lock()
_claimed = 0


def most_connections() -> int | None:
    """Tells how many connections a process may have at the hard limit; None: any number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else max(0, hard - RESERVED)


def claim(connections: int) -> bool:
    """Raises the soft limit of this process, so that so many connections more fit; False: they cannot."""
    global _claimed
    with _lock:
        wanted = _claimed + connections + RESERVED
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            if hard != resource.RLIM_INFINITY and hard < wanted:
                return False
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (ValueError, OSError):  # macOS names no hard limit, and has one
                return False
        _claimed += connections
        return True


def give_back(connections: int) -> None:
    """Counts connections that were claimed, and are closed."""
    global _claimed
    with _lock:
        _claimed = max(0, _claimed - connections)
