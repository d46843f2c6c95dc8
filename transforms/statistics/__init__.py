"""What the rows of a refresh are like, in figures: counted in the graph, in bounded memory."""
