"""Where the workers of a study run: a file for each choice of `pool`."""
