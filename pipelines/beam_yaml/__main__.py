"""Prints the path of providers.yaml, for `providers: - include: PATH` of a Beam YAML file."""

import os
from pathlib import Path

from textmint.pipelines.beam_yaml.transforms import PROVIDERS

print(os.path.relpath(PROVIDERS) if Path.cwd() in PROVIDERS.parents else PROVIDERS)
