"""Textmint on Google Cloud."""
