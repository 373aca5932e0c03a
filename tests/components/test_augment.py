import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2.functional import adjust_brightness, adjust_contrast

from pneumo.components.augment import DRAWS, Augment, _grid
from pneumo.errors import InputError

SAFE = Augment(rotation_degrees=10, shift=0.05, scale=0.1, flip=0.5, brightness=0.2, contrast=0.2, gamma=0.2)
STRONG = Augment(rotation_degrees=20, shear_degrees=8, shift=0.08, scale=0.2, flip=0.5, gamma=0.4, erase=0.5)
REPORT = Augment(rotation_degrees=15, flip=0.5, brightness=0.5, contrast=0.5, crop=224 / 512)


def images(n=4, side=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, side, side), dtype=torch.uint8, generator=generator)


def seeded(augment, n, seed=0):
    return augment.draw(n, torch.Generator().manual_seed(seed))


def middling(**named):
    """A row of draws that changes nothing, but for those named."""
    return torch.tensor([[named.get(name, 0.5) for name in DRAWS]])


@pytest.mark.parametrize("augment", [SAFE, STRONG, REPORT], ids=["safe", "strong", "report"])
def test_what_happens_to_an_image_does_not_depend_on_its_batch(augment):
    batch, draws = images(6), seeded(augment, 6)
    whole = augment(batch, draws)
    alone = torch.cat([augment(batch[i : i + 1], draws[i : i + 1]) for i in range(6)])
    assert torch.allclose(whole, alone, atol=1e-6)


def test_every_image_has_its_own_parameters_and_a_seed_repeats_them():
    same = images(1).expand(5, -1, -1, -1)
    first, again = (SAFE(same, seeded(SAFE, 5, seed=3)) for _ in range(2))
    assert torch.equal(first, again)
    assert len({float(image.sum()) for image in first}) == 5


def test_evaluation_sees_the_central_crop_untouched():
    batch = images(2, side=32)
    assert torch.equal(REPORT.evaluation(batch), batch[:, :, 9:23, 9:23].float() / 255)
    assert torch.equal(SAFE.evaluation(batch), batch.float() / 255)


def test_a_model_of_relabelled_crops_is_asked_about_the_whole_image():
    batch = images(2, side=32)
    assert torch.equal(Augment(crop=0.5, relabel=True).evaluation(batch), batch.float() / 255)


def test_the_reports_crop_is_the_same_share_of_any_side():
    assert [REPORT.output_side(side) for side in (512, 128, 1024)] == [224, 56, 448]


def test_no_augmentation_changes_nothing():
    batch = images()
    assert torch.allclose(Augment()(batch, seeded(Augment(), 4)), batch.float() / 255)


def test_a_flip_is_a_mirror():
    batch = images(1)
    flipping = Augment(flip=1.0)
    assert torch.allclose(flipping(batch, seeded(flipping, 1)), batch.float().flip(3) / 255)
    with_geometry = Augment(flip=1.0, rotation_degrees=1e-9)
    assert torch.allclose(with_geometry(batch, middling()), batch.float().flip(3) / 255, atol=1e-5)


@pytest.mark.parametrize("degrees", [15.0, -15.0])
def test_a_rotation_is_pillows(degrees):
    side = 96
    y, x = np.mgrid[:side, :side]
    smooth = (127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 13)).astype(np.uint8)
    turning = Augment(rotation_degrees=15)
    ours = turning(torch.from_numpy(smooth)[None, None], middling(angle=0.5 + degrees / 30))[0, 0] * 255
    pillows = np.asarray(Image.fromarray(smooth).rotate(degrees, Image.Resampling.BILINEAR))
    inner = slice(20, 76)
    assert np.abs(ours.numpy() - pillows)[inner, inner].max() < 3


@pytest.mark.parametrize("side", [1, 7, 224])
def test_the_grid_is_torchs_affine_grid(side):
    affine = STRONG.affine(seeded(STRONG, 5))
    torchs = torch.nn.functional.affine_grid(affine, [5, 1, side, side], align_corners=False)
    assert torch.allclose(_grid(affine, side), torchs, atol=1e-6)


def test_the_images_given_stay_as_they_are():
    batch = images()
    before = batch.clone()
    STRONG(batch, seeded(STRONG, 4))
    assert torch.equal(batch, before)


def test_a_shift_moves_by_its_share_of_the_side():
    spot = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    spot[0, 0, 10, 10] = 255
    moved = Augment(shift=0.2)(spot, middling(shift_x=1.0))
    assert float(moved[0, 0, 10, 6]) == pytest.approx(1, abs=1e-4)


def test_a_window_of_the_crop_is_cut_out_exactly():
    batch = images(1, side=16)
    half = Augment(crop=0.5)
    assert torch.allclose(half(batch, middling(crop_x=0.0, crop_y=1.0)), batch[:, :, 8:, :8] / 255, atol=1e-5)


def test_brightness_and_contrast_are_factors():
    grey = torch.full((1, 1, 4, 4), 100, dtype=torch.uint8)
    brighter = Augment(brightness=0.5)(grey, middling(brightness=1.0))
    assert torch.allclose(brighter, torch.full_like(brighter, 150 / 255))
    two = torch.tensor([[[[50, 150], [150, 50]]]], dtype=torch.uint8)
    flatter = Augment(contrast=0.5)(two, middling(contrast=0.0))
    assert torch.allclose(flatter * 255, torch.tensor([[[[75.0, 125], [125, 75]]]]), atol=1e-3)


@given(
    st.lists(st.integers(0, 255), min_size=16, max_size=16),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
)
def test_brightness_and_contrast_are_torchvisions_also_where_brightness_clips(values, ranges, drawn):
    image = torch.tensor(values, dtype=torch.uint8).view(1, 1, 4, 4)
    augment = Augment(brightness=ranges[0], contrast=ranges[1])
    brightness, contrast = (1 + range_ * (2 * draw - 1) for range_, draw in zip(ranges, drawn, strict=True))
    theirs = adjust_contrast(adjust_brightness(image / 255, brightness), contrast)
    ours = augment(image, middling(brightness=drawn[0], contrast=drawn[1]))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_values_stay_between_black_and_white():
    for augment in (SAFE, STRONG, REPORT):
        out = augment(images(16), seeded(augment, 16))
        assert float(out.min()) >= 0
        assert float(out.max()) <= 1


def test_an_erased_square_is_black_and_as_large_as_said():
    white = torch.full((1, 1, 50, 50), 255, dtype=torch.uint8)
    erasing = Augment(erase=1.0, erase_side=0.2)
    holes = erasing(white, middling(erase=0.0)) == 0
    assert int(holes.sum()) == 10 * 10


def lesion(side=64, size=8, at=(4, 4)):
    mask = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    mask[:, :, at[0] : at[0] + size, at[1] : at[1] + size] = 255
    return mask


def test_a_crop_that_misses_the_lesion_leaves_none_of_it():
    half = Augment(crop=0.5)
    assert float(half.surviving(lesion(), middling(crop_x=1.0, crop_y=1.0))) == 0
    assert float(half.surviving(lesion(), middling(crop_x=0.0, crop_y=0.0))) == pytest.approx(1, abs=1e-4)


def test_a_crop_through_the_middle_of_a_lesion_leaves_half():
    mask = lesion(at=(10, 28))  # columns 28 to 36, the window begins at 32
    assert float(Augment(crop=0.5).surviving(mask, middling(crop_x=1.0, crop_y=0.0))) == pytest.approx(0.5)


def test_magnifying_does_not_count_as_more_lesion():
    zoom = Augment(scale=0.2)
    mask = lesion(size=24, at=(20, 20))
    for scale in (0.0, 1.0):
        assert float(zoom.surviving(mask, middling(scale=scale))) == pytest.approx(1, abs=0.03)


def test_the_mask_goes_where_the_image_goes():
    mask = lesion(at=(20, 30))
    draws = seeded(STRONG, 8)
    plain = Augment(rotation_degrees=20, shear_degrees=8, shift=0.08, scale=0.2, flip=0.5)
    seen = plain(mask.expand(8, -1, -1, -1), draws)
    kept = plain.surviving(mask.expand(8, -1, -1, -1), draws)
    determinant = plain.affine(draws)[:, :, :2].det().abs()
    assert torch.allclose(kept, (seen.sum(dim=(1, 2, 3)) * determinant / 64).clamp(max=1), atol=1e-4)


def test_relabelling_has_three_answers():
    augment = Augment(relabel=True, relabel_lost_below=0.1, relabel_kept_from=0.5)
    labels = augment.relabelled(torch.ones(5), torch.tensor([0.0, 0.09, 0.1, 0.49, 0.5]))
    assert labels[:2].tolist() == [0, 0]
    assert labels[2:4].isnan().all()
    assert float(labels[4]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0.0}, "augment.crop must be above 0 and at most 1, got 0.0"),
        ({"flip": 1.5}, "augment.flip must be at least 0 and at most 1, got 1.5"),
        ({"relabel_lost_below": 0.5}, "must not exceed augment.relabel_kept_from"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Augment(**options)
