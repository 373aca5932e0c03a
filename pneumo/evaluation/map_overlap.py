"""How far saliency maps and annotated lesions overlap, pixel by pixel."""

# M images, S side in pixels

import numpy as np
from scipy.ndimage import distance_transform_edt

MAP_METRICS = {
    "pointing": "pointing game",
    "energy": "energy inside the mask",
    "auprc": "pixel AUPRC",
}
TOLERANCE = 0.03  # of the side: Zhang et al. 2018 allow 15 pixels, their images are 500 wide


def lesion_pixels(mask: np.ndarray) -> np.ndarray:
    """(S, S) uint8, 255 where a pixel is wholly lesion -> whether it is of the lesion; never empty, however
    thin the lesion is."""
    lesion: np.ndarray = mask >= mask.max() / 2
    return lesion


def near_lesion(lesion: np.ndarray) -> np.ndarray:
    """(S, S) bool -> whether it is lesion, or no further than TOLERANCE from it."""
    near: np.ndarray = distance_transform_edt(~lesion) <= TOLERANCE * len(lesion)
    return near


def overlap_metrics(maps: np.ndarray, lesions: np.ndarray, near: np.ndarray) -> np.ndarray:
    """(M, S, S) of at least 0, and bool -> (M, 3), in the order of MAP_METRICS."""
    return np.array(
        [
            (pointing(map_, around), energy(map_, lesion), pixel_auprc(map_, lesion))
            for map_, lesion, around in zip(maps, lesions, near, strict=True)
        ]
    )


def pointing(map_: np.ndarray, near: np.ndarray) -> float:
    """1 where the map's maximum lies in `near`, else 0; of several equal maxima the share that does."""
    return float(near[map_ == map_.max()].mean())


def energy(map_: np.ndarray, lesion: np.ndarray) -> float:
    """The share of the map's sum that lies inside (Wang et al. 2020, "Score-CAM")."""
    return float(map_[lesion].sum(dtype=float) / map_.sum(dtype=float))


def pixel_auprc(map_: np.ndarray, lesion: np.ndarray) -> float:
    """Average precision of the map's pixels as scores of the lesion's: the mean precision at the values of
    the lesion's pixels."""
    rising = np.sort(map_, axis=None)
    values = np.sort(map_[lesion])
    found = len(values) - np.searchsorted(values, values)  # pixels of the lesion at or above each value
    called = len(rising) - np.searchsorted(rising, values)
    return float((found / called).mean())
