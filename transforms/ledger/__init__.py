"""What was paid for: every reply, kept as it arrives."""
