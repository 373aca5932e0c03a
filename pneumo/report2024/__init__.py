"""The page that `pneumo report` writes: the report of 2024 beside the runs that reproduce its experiments."""
