"""The graph, and the program that runs it."""
