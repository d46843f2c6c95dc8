"""The prompts that come with textmint."""
