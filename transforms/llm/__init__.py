"""What answers prompts: back ends, and the engine that sends requests."""
