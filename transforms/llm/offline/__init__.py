"""A back end that needs no network: it writes replies from a vocabulary, to try the pipeline."""
