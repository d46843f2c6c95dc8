"""Replies, read as the structures that were asked for."""
