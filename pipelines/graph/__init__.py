"""Parts of the graph that options switch on."""
