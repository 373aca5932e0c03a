"""A loss, a model, a data source and an experiment for pneumo, in a package of their own."""
