"""A worker process of a run on this machine: Beam's own, which ends when the process that started the run is gone, or
was told to end.

One that outlives a launcher that was killed would pay for a run that is over, or wait for it for minutes. And a
launcher that is told to end would wait for ever for one that Beam was about to start. So it looks from its first moment
on, before Beam and the steps are imported, which takes seconds; hence no import of ours here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

LAUNCHER = "TEXTMINT_LAUNCHER"
"""The environment variable in which a run tells its worker processes its own process id."""
_PROGRESS = "TEXTMINT_PROGRESS"  # `textmint.transforms.core.progress.VARIABLE`
_ENDING = "ending"  # `textmint.pipelines.cli.signals.ENDING`
_SECONDS = 0.5  # between two looks


def watch(launcher: int, folder: str) -> None:
    """Ends this process, at once, when its parent is gone or was told to end. What was paid for is on the disk from the
    moment it came.

    Args:
      launcher: the id of the parent.
      folder: where it leaves word that it was told to end; "": nowhere.
    """
    # Who asks for the process by its id is told that it lives while it is dead and nobody has taken note of its end.
    while os.getppid() == launcher and not (folder and os.path.exists(os.path.join(folder, _ENDING))):
        time.sleep(_SECONDS)
    os._exit(1)


def main() -> None:
    """Runs Beam's worker."""
    launcher = os.environ.get(LAUNCHER, "")
    if launcher.isdecimal():
        # A terminal sends Ctrl-C to all processes of a command. The launcher ends in order, and this one after it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        told = int(launcher), os.environ.get(_PROGRESS, "")
        threading.Thread(target=watch, args=told, name="launcher-watch", daemon=True).start()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
