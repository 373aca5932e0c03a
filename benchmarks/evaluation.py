"""python benchmarks/evaluation.py: all metrics of an evaluation with intervals, 2,000 draws of 12,047 images.

Subgroups are left out: each of them repeats the same on fewer images."""

import time

import numpy as np
from rows import Row, end
from scipy.special import expit

from pneumo.evaluation.results import Evaluation, LogOddsPredictions

IMAGES, PATIENTS = 12_047, 8_000


def main() -> None:
    random = np.random.default_rng(0)
    log_odds = random.normal(-2, 2, IMAGES)
    labels = (random.random(IMAGES) < expit(log_odds)).astype(int)
    predictions = LogOddsPredictions(labels, log_odds, random.integers(0, PATIENTS, IMAGES), 0.0)
    began = time.perf_counter()
    found = Evaluation.of(predictions)
    seconds = time.perf_counter() - began
    end(
        [
            Row(
                f"an evaluation's {len(found.metrics)} metrics, 2,000 draws over {IMAGES:,} images, s",
                f"{seconds:.2f}",
                "5",
                seconds / 5,
                at_most=1,
            )
        ]
    )


if __name__ == "__main__":
    main()
