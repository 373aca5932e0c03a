"""Metrics of predictions with their intervals, as tables, plots and JSON: arrays in, numbers out."""
