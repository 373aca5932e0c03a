"""Plots of images: where on the figure an image, its map and the outline of its lesion are drawn."""

import io

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pneumo.evaluation.pictures import SIDE, Sheet, Tiles, glowing, saliency_grid
from pneumo.evaluation.plots import POSITIVE

DPI = 200
N = 16  # pixels a side


def drawn(figure: Figure) -> np.ndarray:
    """(H, W, 3) of 0 to 255."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=DPI)
    width, height = (round(side * DPI) for side in figure.get_size_inches())
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)[:, :, :3].astype(int)


def near(pixels: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    return np.abs(pixels - 255 * np.array(colour)).max(axis=2) < 60


def lesion() -> np.ndarray:
    """Rows 4 to 7, columns 10 to 13."""
    mask = np.zeros((N, N), np.uint8)
    mask[4:8, 10:14] = 255
    return mask


def test_an_outline_is_drawn_around_the_lesion_of_its_image():
    sheet = Sheet(SIDE + 0.6, SIDE + 0.4)
    sheet.image(0.5, 0.3, np.zeros((N, N)))
    sheet.outline(0.5, 0.3, lesion())
    rows, columns = np.nonzero(near(drawn(sheet.figure), to_rgb(POSITIVE)))
    pixel = SIDE / N
    edges = (0.3 + 4 * pixel, 0.3 + 8 * pixel, 0.5 + 10 * pixel, 0.5 + 14 * pixel)
    found = np.array([rows.min(), rows.max(), columns.min(), columns.max()]) / DPI
    np.testing.assert_allclose(found, edges, atol=0.02)


def test_an_image_fills_its_place_and_an_empty_mask_has_no_outline():
    sheet = Sheet(SIDE + 0.6, SIDE + 0.4)
    sheet.image(0.5, 0.3, np.zeros((N, N)))
    sheet.outline(0.5, 0.3, np.zeros((N, N), np.uint8))
    pixels = drawn(sheet.figure)
    rows, columns = np.nonzero(near(pixels, (0, 0, 0)))
    found = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / DPI
    np.testing.assert_allclose(found, (0.3, 0.3 + SIDE, 0.5, 0.5 + SIDE), atol=0.01)
    assert not near(pixels, to_rgb(POSITIVE)).any()


def test_a_map_glows_where_it_is_high_and_leaves_the_image_where_it_is_zero():
    image = np.full((2, 2), 0.4)
    covered = glowing(image, np.array([[0.0, 1.0], [0.5, 0.0]]))
    assert covered[0, 0].tolist() == covered[1, 1].tolist() == [102, 102, 102]
    assert covered[0, 1].tolist() == [224, 194, 20]  # .2 of 102 and .8 of (255, 217, 0)


def test_no_two_images_of_a_grid_overlap_and_all_lie_within_it():
    images = np.zeros((5, N, N))
    tiles = Tiles("five", images, np.zeros((5, N, N), np.uint8), images, [("a", "b")] * 5, [False] * 5)
    figure = saliency_grid("title", [tiles, tiles])
    width, height = figure.get_size_inches()
    boxes = [image.get_extent() for image in figure.axes[0].get_images()]  # left, right, bottom, top
    assert len(boxes) == 20
    for left, right, bottom, top in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    for number, (left, right, bottom, top) in enumerate(boxes):
        for other in boxes[number + 1 :]:
            assert right < other[0] or other[1] < left or bottom < other[3] or other[2] < top
