"""A study: many runs, chosen by Optuna, carried out by Hydra, kept in a database that several processes
may share. `plugin` is what Hydra calls; `controller` takes trials and launches them; `trial` is what happens
inside a job; `ledger` is the database."""
