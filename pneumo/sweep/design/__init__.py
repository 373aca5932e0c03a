"""Designed studies: questions about recipes, answered by pairs of runs that share their seeds."""
