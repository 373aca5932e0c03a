"""Names of the user attributes that Optuna stores with a study and with its trials.

Databases that exist already hold these strings: a constant may be renamed, its value must not change.
"""

# ---- of a study
STUDY_ID = "study_id"  # 32 hex digits; unlike the name, no two studies share them
IDENTITY = "identity"  # objective, search space and fixed settings, which must not change
QUEUE = "queue"  # parameters of the given trials, all of which the study has
N_TRIALS = "n_trials"  # how many complete and pruned trials the study is to have
OBJECTIVE = "objective"  # list of the metrics that are optimized, e.g. ["val/auroc"]
DESIGN = "design"  # the fields of an AblationDesign; None for a study that samples
DATA = "data"  # hashes of images, labels, lesions and patients, by aspect
CHOSEN_RATES = "chosen_rates"  # of a design: arm -> the learning rate that it is best at
SPLIT_HASH = "split_hash"  # of the split into train, val and test
PARENT_RUN = "parent_run"  # id of the MLflow run above those of the trials
ABANDONED_RUNS = "given_up"  # ids of MLflow runs that were closed since their trial is not retried
SAVED_TRIALS = "kept"  # how many trials had ended when the results were last logged to the parent run
CONFIRM_RUN = "confirm_run"  # id of the MLflow run above those with fresh seeds
TESTED = "tested"  # metrics of the test split and the run they are of; written once

# ---- of a trial
PROCESS = "process"  # host, process id and start of the process that trains it, once it has begun
RUN_ID = "run_id"  # of its MLflow run
CONFIG_HASH = "config_hash"  # of all settings that change the result; duplicates share it
OVERRIDES = "overrides"  # list of Hydra overrides that compose its configuration
EPOCHS = "epochs"  # how many it is configured to train
EFFECTIVE_BATCH = "effective_batch"  # images a step of the optimizer
METRICS = "figures"  # metric -> value of the whole run
FAILURE = "failure"  # kind of the failure: crash, stopped, non-finite, configuration, out of memory
STOPPED = "stopped"  # "pruned" where the pruner stopped it
REASON = "reason"  # message of the failure or of the pruner, at most 1000 characters
ATTEMPTS = "attempts"  # numbers of the failed trials that this one retries, oldest first
DUPLICATE_OF = "duplicate_of"  # number of the trial with the same configuration whose result it copies
COPIED = (RUN_ID, CONFIG_HASH, OVERRIDES, EPOCHS, EFFECTIVE_BATCH, METRICS)  # what a duplicate copies
