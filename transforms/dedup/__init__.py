"""Duplicates and near-duplicates of texts in this run, in other refreshes, in files of excluded texts."""
