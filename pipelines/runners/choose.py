"""Chooses which of Beam's runners a run goes to, and sets what that needs.

On one machine it is always `FnApiRunner`, which is in Beam itself. `DirectRunner` tries Prism first, a program that
Beam downloads without a timeout: behind a firewall it would hang."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.portability import python_urns
from apache_beam.runners.runner import create_runner
from textmint.pipelines.options.errors import OptionError, reason_of

LOCAL_RUNNER: Final = "FnApiRunner"
"""Beam's in-process engine, which needs no network."""

EMBEDDED: Final = "embed"
"""The value of --job_endpoint for the job server that runs in the launching process."""

_ALSO_LOCAL: Final = frozenset(["direct", "switchingdirect", "bundlebaseddirect", "testdirect", "fnapi"])
_LEAVE_OUT: Final = "or leave --runner out, for the engine that is in Beam itself"
_NO_CLUSTER: Final = (
    "no cluster is named, and Beam would download a {} to run on this machine; add {}, or --job_endpoint=host:port of "
    f"a job server, {_LEAVE_OUT}"
)
_NEEDS_ONE_OF: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "dask": ((), f"it loses rows and says that all is well (Beam 2.77); take another, {_LEAVE_OUT}"),
    "interactive": ((), f"it is for notebooks; take another, {_LEAVE_OUT}"),
    "portable": (
        ("job_endpoint",),
        f"no job server is named; add --job_endpoint=host:port, or --job_endpoint={EMBEDDED}, {_LEAVE_OUT}",
    ),
    "prism": (
        ("job_endpoint",),
        "Beam would download a program and run it; name one that is here with --prism_location=FILE, or one that runs "
        f"with --job_endpoint=host:port, {_LEAVE_OUT}",
    ),
    "flink": (
        ("job_endpoint", "flink_master", "flink_job_server_jar"),
        _NO_CLUSTER.format("Flink", "--flink_master=host:8081"),
    ),
    "spark": (
        ("job_endpoint", "spark_master_url", "spark_rest_url", "spark_job_server_jar"),
        _NO_CLUSTER.format("Spark", "--spark_master_url=spark://host:7077"),
    ),
}
"""Runners that work only with one of these options, and what is wrong without."""


def settle_runner(options: PipelineOptions) -> None:
    """Settles Beam's options, in place, on a runner that can run the graph.

    Beam's own engines on this machine become `LOCAL_RUNNER`. Workers of the embedded job server are threads of this
    process by default: Beam would start containers of an image without Textmint. The state of `__main__` does not
    travel to workers: all that they run stands in modules.

    Raises:
      OptionError: the runner is unknown, not installed, known to lose rows, or would be downloaded.
    """
    standard, setup, portable = (options.view_as(kind) for kind in (StandardOptions, SetupOptions, PortableOptions))
    typed = standard.runner or "direct"
    name = typed.rpartition(".")[2].lower().removesuffix("runner")
    if name in _ALSO_LOCAL:
        standard.runner = LOCAL_RUNNER
    elif problem := _problem_of(name, options):
        raise OptionError(f"--runner={typed}: {problem}")
    elif portable.job_endpoint == EMBEDDED:
        _settle_embedded(portable)
    try:
        create_runner(standard.runner)
    except Exception as error:  # an unknown name, or one whose packages are not installed
        raise OptionError(f"--runner={typed}: {reason_of(error)}") from None
    if setup.save_main_session is None:
        setup.save_main_session = False


def is_local(options: PipelineOptions) -> bool:
    """Returns whether this process runs the job itself, by Beam's settled options."""
    runner = options.view_as(StandardOptions).runner
    return bool(runner == LOCAL_RUNNER or options.view_as(PortableOptions).job_endpoint == EMBEDDED)


def has_worker_processes(options: PipelineOptions) -> bool:
    """Returns whether this process starts others that do the work, by Beam's settled options."""
    if options.view_as(StandardOptions).runner == LOCAL_RUNNER:
        return bool(options.view_as(DirectOptions).direct_running_mode == "multi_processing")
    return is_local(options) and options.view_as(PortableOptions).environment_type == python_urns.SUBPROCESS_SDK


def _problem_of(name: str, options: PipelineOptions) -> str:
    if name not in _NEEDS_ONE_OF:
        return ""
    needed, problem = _NEEDS_ONE_OF[name]
    if not options.get_all_options(drop_default=True).keys().isdisjoint(needed):
        return ""
    prism = options.view_as(PrismRunnerOptions).prism_location
    return "" if name == "prism" and prism and os.path.exists(prism) else problem


def _settle_embedded(portable: Any) -> None:
    if portable.environment_type is None:
        portable.environment_type = "LOOPBACK"
    elif portable.environment_type.upper() == "PROCESS":
        raise OptionError(
            "--environment_type=PROCESS: the embedded job server cannot start such workers (Beam 2.77); "
            f"use LOOPBACK, EXTERNAL or {python_urns.SUBPROCESS_SDK}"
        )
