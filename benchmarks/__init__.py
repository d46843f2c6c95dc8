"""Measures what the pipeline costs, and how busy it keeps an endpoint: `./run.sh bench`."""
