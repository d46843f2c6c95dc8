"""Prints the path of providers.yaml, for `providers: - include: PATH` of a Beam YAML file."""

import os
import sys
from pathlib import Path

from textmint.pipelines.beam_yaml.transforms import PROVIDERS
from textmint.pipelines.cli.terminal import shown

path = os.path.relpath(PROVIDERS) if Path.cwd() in PROVIDERS.parents else str(PROVIDERS)
sys.exit(shown(path, "python -m textmint.pipelines.beam_yaml"))
