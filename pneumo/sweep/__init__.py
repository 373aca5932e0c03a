"""A study: training runs whose parameters Optuna samples, launched by Hydra, in a database that several
processes may share. Hydra calls `plugin`; `controller` has a study's life, `trial` a trial's inside its
job, and `storage` the database.
"""
