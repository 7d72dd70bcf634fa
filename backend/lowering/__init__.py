"""The stages between a prepared graph and a planned one: each is a function of a graph, a target and a number of threads."""
