"""The stages of lowering: each is a function of a graph, a target and a number of threads."""
