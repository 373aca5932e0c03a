"""The table of the phantom's images: patients, labels, views, ages and sexes."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd

from pneumo.data.phantom.style import column

POSITIVE_SHARE = 0.2215
PATIENTS_PER_IMAGE = 6171 / 12047
SINGLE_IMAGE_PATIENTS = 4219 / 6171
# The share of patients with k >= 2 images is k^-2 exp(-k / 16.8), up to 61. Their mean is the real 4.01, and
# with the mean labels below the prevalence is the real one.
MOST_IMAGES, COUNT_EXPONENT, COUNT_DECAY = 61, 2.0, 16.8

# Mean label of a patient's images by their number, and the concentration of the beta-binomial distribution of
# labels, calibrated on the 600 patients with both labels and on the AUROC of recognising patients.
MEAN_LABEL_UP_TO = ((1, 0.026), (3, 0.12), (7, 0.33), (15, 0.47), (MOST_IMAGES, 0.71))
LABEL_CONCENTRATION = 1.7

AP_SHARE_IF_POSITIVE, AP_SHARE_IF_NEGATIVE = 0.363, 0.406
MALE_SHARE = 0.56
TUBE_IF_POSITIVE, TUBE_IF_NEGATIVE = 1 / 3, 0.05

# Lesion area as a share of the image: log-normal, cut at both ends.
MEDIAN_AREA, LOG_AREA_SPREAD = 0.0084, 1.115
SMALLEST_AREA, LARGEST_AREA = 0.0004, 0.15

STYLE_STREAM = 1  # of the random numbers that give patients their styles


def studies(n_images: int, seed: int, styles: Sequence[str] = ("default",)) -> pd.DataFrame:
    """Returns a table of one row per image, with patients and labels clustered as in SIIM-ACR. Each patient
    has one of the styles, and as many patients have one as another; patients, labels, views, ages and sexes
    do not depend on them, and a row is the same as where all rows have its style.

    Columns: image_id, patient_id (str), label (0/1, exactly round(.2215 n) ones), view ('AP'|'PA'), age
    (years), sex ('F'|'M'), area (share of the image the lesion covers, 0 for negatives), tube (0/1),
    style (a name)."""
    if n_images < 1:
        raise ValueError(f"the phantom needs at least one image, got n_images={n_images}")
    rng = np.random.default_rng([seed, n_images])
    counts = _images_per_patient(n_images)
    rng.shuffle(counts)
    n_patients = len(counts)
    patient = rng.permutation(np.repeat(np.arange(n_patients), counts))

    label = _labels(patient, counts, rng)
    positive = label == 1

    # A patient tends to be imaged the same way each time; the sum below is still a standard normal.
    mobility = 0.7 * rng.normal(size=n_patients)[patient] + np.sqrt(1 - 0.7**2) * rng.normal(size=n_images)
    standard = NormalDist()
    is_ap = mobility < np.where(
        positive, standard.inv_cdf(AP_SHARE_IF_POSITIVE), standard.inv_cdf(AP_SHARE_IF_NEGATIVE)
    )

    age_at_first = np.clip(rng.normal(47, 16.5, n_patients), 5, 90)[patient]
    age = np.clip(age_at_first + rng.exponential(0.8, n_images) * (counts[patient] > 1), 5, 95).astype(int)
    is_male = (rng.random(n_patients) < MALE_SHARE)[patient]

    of_patient = np.random.default_rng([seed, n_images, STYLE_STREAM]).permutation(
        np.resize(styles, n_patients)
    )
    style = of_patient[patient]
    area = np.zeros(n_images)
    area[positive] = _areas(style[positive], rng)
    tube = rng.random(n_images) < np.where(
        positive,
        TUBE_IF_POSITIVE * column(style, "tubes"),
        TUBE_IF_NEGATIVE * column(style, "tubes_in_negatives"),
    )
    return pd.DataFrame(
        {
            "image_id": [f"phantom-{seed}-{i:06d}" for i in range(n_images)],
            "patient_id": [f"phantom-{seed}-p{p:05d}" for p in patient],
            "label": label,
            "view": np.where(is_ap, "AP", "PA"),
            "age": age,
            "sex": np.where(is_male, "M", "F"),
            "area": area,
            "tube": tube.astype(int),
            "style": style,
        }
    )


def _images_per_patient(n_images: int) -> np.ndarray:
    """Returns the number of images of each patient, which are quantiles of the distribution."""
    n_patients = max(1, round(n_images * PATIENTS_PER_IMAGE))
    sizes = np.arange(1, MOST_IMAGES + 1)
    chance = np.where(sizes == 1, 0.0, sizes**-COUNT_EXPONENT * np.exp(-sizes / COUNT_DECAY))
    chance *= (1 - SINGLE_IMAGE_PATIENTS) / chance.sum()
    chance[0] = SINGLE_IMAGE_PATIENTS
    quantiles = (np.arange(n_patients) + 0.5) / n_patients
    counts = sizes[np.searchsorted(np.cumsum(chance)[:-1], quantiles)]

    # What is missing or left over is spread over the patients in the tail, largest first.
    surplus = n_images - int(counts.sum())
    step = 1 if surplus > 0 else -1
    while surplus:
        tail = np.flatnonzero(counts > 1)[::-1][: abs(surplus)]
        if tail.size == 0:
            tail = np.arange(n_patients)[::-1][: abs(surplus)]
        counts[tail] += step
        surplus -= step * len(tail)
    return counts


def _labels(patient: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns 0/1 labels (images,) by the risk of each patient, with an exact total."""
    bounds, means = zip(*MEAN_LABEL_UP_TO, strict=True)
    mean = np.array(means)[np.searchsorted(bounds, counts)]
    risk = rng.beta(mean * LABEL_CONCENTRATION, (1 - mean) * LABEL_CONCENTRATION)[patient]
    chance = rng.random(len(patient))
    margin = _log_odds(risk) - _log_odds(chance)
    label = np.zeros(len(patient), dtype=int)
    label[np.argsort(-margin, kind="stable")[: round(len(patient) * POSITIVE_SHARE)]] = 1
    return label


def _areas(style: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the lesion areas (n,) of positives with these styles. They are shuffled quantiles, so that all
    seeds have the same areas."""
    n, standard = len(style), NormalDist()
    score = rng.permutation([standard.inv_cdf((i + 0.5) / n) for i in range(n)])
    middle = np.log(MEDIAN_AREA * column(style, "lesion_area"))
    areas: np.ndarray = np.exp(middle + score * (LOG_AREA_SPREAD * column(style, "lesion_spread")))
    return areas.clip(SMALLEST_AREA, LARGEST_AREA)


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    log_odds: np.ndarray = np.log(p / (1 - p))
    return log_odds
