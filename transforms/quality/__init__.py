"""Checks of one row by itself."""
