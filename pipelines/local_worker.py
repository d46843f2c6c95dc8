"""A worker process of a run on this machine: Beam's own, which ends when the process that started the run is gone.

One that outlives a launcher that was killed would pay for a run that is over, or wait for it for minutes. So it looks
from its first moment on, before Beam and the steps are imported, which takes seconds; hence no import of ours here.
"""

from __future__ import annotations

import os
import sys
import threading
import time

_LAUNCHER = "TEXTMINT_LAUNCHER"  # `transforms.llm.engine.LAUNCHER`
_SECONDS = 0.5  # between two looks


def watch(launcher: int) -> None:
    """Ends this process, at once, when another one is gone. What was paid for is on the disk from the moment it came.

    Args:
      launcher: the id of that process.
    """
    while True:
        try:
            os.kill(launcher, 0)
        except ProcessLookupError:
            os._exit(1)
        except PermissionError:
            pass
        time.sleep(_SECONDS)


def main() -> None:
    """Runs Beam's worker."""
    launcher = os.environ.get(_LAUNCHER, "")
    if launcher.isdecimal():
        threading.Thread(target=watch, args=(int(launcher),), name="launcher-watch", daemon=True).start()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
