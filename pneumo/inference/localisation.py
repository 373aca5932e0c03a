"""Whether a model's saliency maps lie on the annotated lesions, next to chance and to the same model with
randomised weights (Adebayo et al. 2018, "Sanity checks for saliency maps")."""

# M images with an annotated lesion, S side in pixels

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from pneumo.data.dataset import Dataset
from pneumo.display.format import decimal, with_interval
from pneumo.display.pages import Section
from pneumo.evaluation.map_overlap import MAP_METRICS, TOLERANCE, lesion_pixels, near_lesion, overlap_metrics
from pneumo.evaluation.metrics import FEW_PATIENTS, FEWEST_PATIENTS, NO_INTERVAL, Interval, bootstrap_means
from pneumo.evaluation.subgroups import SIZES, named_size
from pneumo.inference.model import LoadedModel
from pneumo.inference.saliency import NAMES, compute_maps, names_of

N_RANDOMISED = 3
MOST = 300  # images: about 15 seconds at 128 px with model=tiny on one core
LESION_SIZES = {"all": (0.0, 1.0), **SIZES}
BETTER = "better than both"
TOO_FEW = "not known, too few patients"
TITLE = "Does the model look at the lesion?"


@dataclass(frozen=True)
class Estimate:
    value: float
    interval: Interval

    def __str__(self) -> str:
        return with_interval(self.value, self.interval)


@dataclass(frozen=True)
class MapMetric:
    """One metric of one map, over the lesions of one size (`all`, or one of SIZES); means over images.
    `difference` is trained less randomised, paired; 95% intervals, patients resampled. `chance` is what a
    map without any pattern comes to."""

    map: str
    metric: str
    size: str
    n_images: int
    trained: Estimate
    randomised: Estimate
    difference: Estimate
    chance: float

    @property
    def verdict(self) -> str:
        """On the trained model."""
        low, high = self.difference.interval
        if np.isnan(low):
            return TOO_FEW
        if low <= 0:
            return "worse than randomised" if high < 0 else "no better than randomised"
        return BETTER if self.trained.interval[0] > self.chance else "no better than chance"


@dataclass(frozen=True)
class Localisation:
    n_images: int
    n_annotated: int  # of which n_images were drawn
    n_patients: int
    patients_known: bool  # else each image counts as a patient of its own
    n_unannotated: int  # positives without an annotated lesion
    n_randomised: int
    side_px: int
    empty: Mapping[str, tuple[int, float]]  # every map: images where it is 0 everywhere, and randomised
    measured: tuple[MapMetric, ...]

    def of(self, map_: str, size: str = "all") -> list[MapMetric]:
        return [one for one in self.measured if (one.map, one.size) == (map_, size)]


def measure_localisation(
    loaded: LoadedModel,
    dataset: Dataset,
    rows: np.ndarray,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Localisation | None:
    """Over those of `rows` that have an annotated lesion, of which MOST are drawn at random where there are
    more; None: none has. `seed` is that of this draw, of the randomised weights and of the resampling.
    `advance` is called with how many maps are done, and of how many."""
    annotated = rows[dataset.store.has_mask[rows]]
    if not len(annotated):
        return None
    drawn = np.random.default_rng(seed).choice(annotated, min(MOST, len(annotated)), replace=False)
    masked = np.sort(drawn)
    masks = dataset.store.masks(masked)
    images = torch.from_numpy(dataset.store.pixels[masked])[:, None]
    patients, share = dataset.patients[masked], masks.mean(axis=(1, 2)) / 255
    lesions = np.stack([lesion_pixels(mask) for mask in masks])
    near = np.stack([near_lesion(lesion) for lesion in lesions])
    chance = overlap_metrics(np.ones(masks.shape, np.float32), lesions, near)

    names = names_of(loaded)
    models = [loaded, *(with_random_weights(loaded, seed + number) for number in range(N_RANDOMISED))]
    done, total = 0, len(masked) * len(models)

    def on_batch(n_images: int) -> None:
        nonlocal done
        done += n_images
        advance(done, total)

    of_models = [
        {
            name: metrics_of_maps(maps, lesions, near)
            for name, maps in compute_maps(model, images, names, on_batch).items()
        }
        for model in models
    ]
    measured: list[MapMetric] = []
    empty: dict[str, tuple[int, float]] = {}
    for name in names:
        (own, own_empty), *others = (metrics[name] for metrics in of_models)
        empty[name] = own_empty, float(np.mean([count for _, count in others]))
        random = np.mean([metrics for metrics, _ in others], axis=0)
        for size, (low, high) in LESION_SIZES.items():
            these = (share > low) & (share <= high)
            measured += compare_with_randomised(
                name, size, own[these], random[these], chance[these], patients[these], seed
            )
    return Localisation(
        n_images=len(masked),
        n_annotated=len(annotated),
        n_patients=len(np.unique(patients)),
        patients_known=dataset.patients_known,
        n_unannotated=int((dataset.labels[rows] == 1).sum()) - len(annotated),
        n_randomised=N_RANDOMISED,
        side_px=masks.shape[-1],
        empty=empty,
        measured=tuple(measured),
    )


def with_random_weights(loaded: LoadedModel, seed: int) -> LoadedModel:
    """The same architecture with fresh weights, all layers of it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = replace(
            loaded.experiment.model, pretrained=None, mask_head=loaded.model.mask_head is not None
        )
        fresh = config(loaded.loss.n_outputs)
    return replace(loaded, model=fresh.to(loaded.accelerator.device).eval())


def metrics_of_maps(maps: np.ndarray, lesions: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, int]:
    """(M, 3) metrics of maps (M, S, S), and how many of them are 0 everywhere, which count as even ones."""
    is_empty = ~np.asarray(maps.any(axis=(1, 2)))
    maps = np.where(is_empty[:, None, None], np.float32(1), maps)
    return overlap_metrics(maps, lesions, near), int(is_empty.sum())


def compare_with_randomised(
    map_: str,
    size: str,
    own: np.ndarray,
    random: np.ndarray,
    chance: np.ndarray,
    patients: np.ndarray,
    seed: int,
) -> list[MapMetric]:
    """(M, 3) each -> a MapMetric for each of MAP_METRICS; none where there are no images."""
    if not len(own):
        return []
    found = estimates(np.hstack([own, random, own - random]), patients, seed)
    n = len(MAP_METRICS)
    return [
        MapMetric(map_, metric, size, len(own), trained, randomised, difference, float(chance_level))
        for metric, trained, randomised, difference, chance_level in zip(
            MAP_METRICS, found[:n], found[n : 2 * n], found[2 * n :], chance.mean(axis=0), strict=True
        )
    ]


def estimates(values: np.ndarray, patients: np.ndarray, seed: int) -> list[Estimate]:
    """Of each column's mean, without an interval where there are too few patients; one seed draws the same
    patients for all."""
    enough = len(np.unique(patients)) >= FEWEST_PATIENTS
    none = [NO_INTERVAL] * values.shape[1]
    intervals = bootstrap_means(values, patients, seed=seed) if enough else none
    return [Estimate(float(v), i) for v, i in zip(values.mean(axis=0), intervals, strict=True)]


def sections(localisation: Localisation | None) -> list[Section]:
    """The localisation as text and tables."""
    if localisation is None:
        return [Section(TITLE, ["Skipped: none of these images has an annotated lesion."])]
    columns = ["map", "", "trained", "randomised", "difference", "chance", "the trained model is"]
    rows = [
        [
            NAMES[map_],
            MAP_METRICS[one.metric],
            *map(str, (one.trained, one.randomised, one.difference)),
            decimal(one.chance),
            one.verdict,
        ]
        for map_ in localisation.empty
        for one in localisation.of(map_)
    ]
    return [Section(TITLE, paragraphs(localisation), columns, rows), by_size(localisation)]


def paragraphs(localisation: Localisation) -> list[str]:
    known = localisation.patients_known
    patients = f"{localisation.n_patients:,} patients" if known else "unknown patients"
    of_all = ""
    if localisation.n_images < localisation.n_annotated:
        of_all = f", drawn at random from {localisation.n_annotated:,}"
    lines = [
        f"{localisation.n_images:,} images of {patients} with an annotated lesion{of_all}.",
        *(line for map_ in localisation.empty for line in map_verdict(localisation, map_)),
        f"Randomised: {localisation.n_randomised} models of this architecture with fresh weights, averaged.",
        "Chance: an even map.",
        f"Pointing game: the maximum lies in the lesion, or within {TOLERANCE:.0%} of the image's side of it "
        f"({TOLERANCE * localisation.side_px:.1f} pixels).",
        f"95% intervals, {'patients' if known else 'images'} resampled; the difference is paired.",
    ]
    if localisation.n_unannotated:
        lines.insert(1, f"Left out: {localisation.n_unannotated:,} positives without an annotated lesion.")
    if localisation.n_patients < FEW_PATIENTS:
        lines.insert(1, "So few patients: take these values as a first impression.")
    return lines


def map_verdict(localisation: Localisation, map_: str) -> list[str]:
    """Whether one map is shown to be on the lesions, and how often it is empty; in sentences."""
    name = NAMES[map_]
    beaten = [one for one in localisation.of(map_) if one.verdict != BETTER]
    if beaten:
        by = {
            one.verdict: [MAP_METRICS[o.metric] for o in beaten if o.verdict == one.verdict] for one in beaten
        }
        found = "; ".join(f"{word} by {' and '.join(names)}" for word, names in by.items())
        shown = "NOT" if len(beaten) == len(MAP_METRICS) else "PARTLY"
        lines = [f"{name}: {shown} SHOWN to be on the lesions. The trained model is {found}."]
    else:
        lines = [
            f"{name}: on the lesions, above randomised weights and chance by all {len(MAP_METRICS)} metrics."
        ]
    own, others = localisation.empty[map_]
    if own:
        lines.append(
            f"{name} is empty in {own:,} of {localisation.n_images:,} images (randomised: {others:,.0f}); "
            "an empty map counts as an even one."
        )
    return lines


def by_size(localisation: Localisation) -> Section:
    rows = [
        [
            NAMES[map_],
            named_size(size),
            f"{found[0].n_images:,}",
            *(trained_and_randomised(one) for one in found),
        ]
        for map_ in localisation.empty
        for size in SIZES
        if (found := localisation.of(map_, size))
    ]
    lines = [
        "Thirds of SIIM-ACR's lesions, by their share of the image. After the slash: randomised.",
        "Starred: no better than randomised weights, or than chance. Without an interval: too few patients.",
    ]
    return Section("By the lesion's size", lines, ["map", "lesion", "images", *MAP_METRICS.values()], rows)


def trained_and_randomised(one: MapMetric) -> str:
    mark = "" if one.verdict in (BETTER, TOO_FEW) else " *"
    return f"{one.trained} / {decimal(one.randomised.value)}{mark}"
