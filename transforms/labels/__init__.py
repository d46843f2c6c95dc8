"""The labels of a task: planned, verified, and spelled alike."""
