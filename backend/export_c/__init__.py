"""Export a compiled model as a folder for a C project: library, header, weights, and an example that tests itself."""
