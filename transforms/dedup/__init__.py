"""Texts that are there already, or nearly: in this run, in other refreshes, in files of excluded texts."""
