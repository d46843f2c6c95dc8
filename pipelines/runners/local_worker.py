"""A worker process of a run on this machine: Beam's own, which ends when its launcher is gone or was asked to end.

A worker that outlives a killed launcher would pay for a run that is over; and a launcher that is asked to end would
wait for ever for a worker that Beam was about to start. So this watches before Beam and the steps are imported, which
takes seconds; hence no import of ours here."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time

_LAUNCHER = "TEXTMINT_LAUNCHER"  # `textmint.transforms.llm.engine.LAUNCHER`
_PROGRESS = "TEXTMINT_PROGRESS"  # `textmint.transforms.core.progress.VARIABLE`
_ENDING = "ending"  # `textmint.pipelines.cli.signals.ENDING`
_POLL_SECONDS = 0.5


def watch(launcher: int, folder: str) -> None:
    """Ends this process at once when its parent is gone, or has left a file in `folder` since it was asked to end. What
    was paid for is on disk from the moment it came."""
    # A dead process still counts as alive for whoever asks by its id, until somebody has waited for it.
    while os.getppid() == launcher and not (folder and os.path.exists(os.path.join(folder, _ENDING))):
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def main() -> None:
    """Runs Beam's worker."""
    launcher = os.environ.get(_LAUNCHER, "")
    if launcher.isdecimal():
        # A terminal sends Ctrl-C to all processes of a command. The launcher ends in order, and this one after it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        watched = int(launcher), os.environ.get(_PROGRESS, "")
        threading.Thread(target=watch, args=watched, name="launcher-watch", daemon=True).start()
    gc.disable()  # as in `textmint.pipelines.__main__.program`
    from apache_beam.runners.worker import sdk_worker_main

    gc.freeze()
    gc.enable()
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
