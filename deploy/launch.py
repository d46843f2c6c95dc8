"""Runs in the launcher of a Flex Template. Nothing is defined here: workers do not find what stands in __main__."""

import sys

from textmint.pipelines.__main__ import program

sys.argv.insert(1, "generate")
program()
