"""Where a run's files are among its artifacts in MLflow."""

PLACES = {  # name of a file -> its path; older versions wrote them at the top
    "config.yaml": "configuration/config.yaml",
    "plan.yaml": "configuration/plan.yaml",
    "uncommitted.patch": "configuration/uncommitted.patch",
    "skipped.txt": "data/skipped.txt",
    "predictions.csv": "results/predictions.csv",
    "results.json": "results/results.json",
}


def place_of(path: str) -> str:
    """The path among the artifacts of a file that is given by its name, or by a path of its own."""
    return PLACES.get(path, path)
