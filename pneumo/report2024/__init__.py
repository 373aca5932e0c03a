"""The page that answers the report of 2024, from the runs and studies that are there."""
