"""Options: read, checked, completed."""
