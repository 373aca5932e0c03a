"""Where the log odds come from."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pneumo.components.models import Classifier
from pneumo.data.normalise import FIXED
from pneumo.errors import InputError
from pneumo.inference.model import LoadedModel
from pneumo.inference.saliency import MAPS, compute_maps, grad_cam, hires_cam, names_of, saliency
from pneumo.training.device import Accelerator

ARCHITECTURES = {
    **dict.fromkeys(
        ["tiny", "resnet18", "resnet50", "densenet121", "convnext_tiny", "efficientnet_v2_s"], ()
    ),
    "timm": ("model.name=resnet26d",),
}


@pytest.fixture
def made(composed):
    """Overrides, and a backbone with its number of features instead of the configured one -> LoadedModel."""

    def make(*overrides, backbone=None, n_features=1):
        experiment = composed("fit.device=cpu", "fit.channels_last=false", "fit.batch_size=3", *overrides)
        n_outputs = experiment.loss.n_outputs
        torch.manual_seed(0)
        model = Classifier(backbone, n_features, n_outputs, 0, "none") if backbone else None
        return LoadedModel(
            run_id="0" * 32,
            experiment=experiment,
            model=(model or experiment.model(n_outputs)).eval(),
            loss=experiment.loss.fitted(0.2),
            normalise=FIXED["half"],
            threshold=0.5,
            accelerator=Accelerator.chosen("cpu", "bf16"),
            images=None,
            seen=None,
            split_hash="",
            cautions=(),
        )

    return make


def pictures(n=5, side=64):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 1, side, side), np.uint8))


class Pixel(nn.Module):
    """(B, 1, H, W) -> (B, 1): what a convolution finds at one place."""

    def __init__(self, row, column):
        super().__init__()
        self.row, self.column = row, column
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images):
        return self.conv(images)[:, :, self.row, self.column]


def towards(trained, weights):
    with torch.no_grad():
        trained.model.head.weight.copy_(torch.tensor(weights))
    return trained


@pytest.mark.parametrize(("overrides", "head"), [((), [[2.0]]), (("loss=ce",), [[3.0], [5.0]])])
def test_saliency_is_where_the_only_pixels_lie_that_count(made, overrides, head):
    trained = towards(made(*overrides, backbone=Pixel(2, 5)), head)
    expected = np.zeros((16, 16))
    expected[1:4, 4:7] = 1
    assert np.allclose(saliency(trained, pictures(side=16)), expected)


def test_saliency_is_the_slope_of_the_log_odds(made):
    """Central differences, in double precision."""
    trained = made("model.width=4", "loss=ce")
    image = pictures(1, 32)
    found = saliency(trained, image)[0]
    exact = trained.model.double()

    def log_odds(values):
        logits = exact(trained.normalise(values / 255))
        return float(logits[0, 1] - logits[0, 0])

    slopes = {}
    for row, column in [(3, 4), (16, 16), (20, 9), (31, 0)]:
        step = torch.zeros_like(image, dtype=torch.float64)
        step[0, 0, row, column] = 1e-3
        with torch.no_grad():
            slopes[row, column] = abs(log_odds(image + step) - log_odds(image - step))
    ratios = [found[place] / slope for place, slope in slopes.items()]
    assert np.allclose(ratios, ratios[0], rtol=1e-2)


class Averaged(nn.Module):
    """(B, 1, H, W) -> (B, 1)"""

    def forward(self, x):
        return x.mean(dim=(2, 3))


class Highest(nn.Module):
    """(B, 1, H, W) -> (B, 1)"""

    def forward(self, x):
        return x.amax(dim=(2, 3))


def corner_detector(pooling):
    convolution = nn.Conv2d(1, 1, 4, stride=4, bias=False)
    nn.init.ones_(convolution.weight)
    return nn.Sequential(convolution, nn.ReLU(), pooling)


@pytest.mark.parametrize("cam", [grad_cam, hires_cam])
@pytest.mark.parametrize("pooling", [Averaged(), Highest()], ids=["average", "maximum"])
def test_a_detector_of_brightness_points_at_the_bright_corner(made, cam, pooling):
    trained = towards(made(backbone=corner_detector(pooling)), [[1.0]])
    images = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    images[0, 0, :4, 28:] = images[1, 0, 28:, :4] = 255
    for found, (row, column) in zip(cam(trained, images), [(1.5, 29.5), (29.5, 1.5)], strict=True):
        where = np.argwhere(found == found.max()).mean(axis=0)
        assert np.allclose(where, (row, column), atol=2)
        assert found[8:24, 8:24].max() == 0


def test_a_cam_is_empty_where_everything_speaks_against(made):
    trained = towards(made(backbone=corner_detector(Averaged())), [[-1.0]])
    assert not grad_cam(trained, torch.full((1, 1, 32, 32), 255, dtype=torch.uint8)).any()


def test_behind_average_pooling_both_cams_are_the_class_activation_map(made):
    """Zhou et al. 2016: the head's weights over the last map, computed here layer by layer."""
    trained = made("model=resnet18")
    images = pictures(4)
    net, x = trained.model.backbone, trained.normalise(images / 255)
    with torch.no_grad():
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        activation = torch.einsum("c,bchw->bhw", trained.model.head.weight[0], x).relu()
    expected = F.interpolate(activation[:, None], (64, 64), mode="bilinear", align_corners=False)[:, 0]
    expected = (expected / expected.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).numpy()
    assert expected.any(), "nothing to compare"
    assert np.allclose(grad_cam(trained, images), expected, atol=1e-4)
    assert np.allclose(hires_cam(trained, images), expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("overrides", [("model.freeze=backbone",), ("loss=ce",)], ids=" ".join)
def test_every_architecture_has_every_map_and_is_left_as_it_was(made, architecture, overrides):
    masked = ["model.mask_head=true"] if architecture.startswith(("tiny", "resnet")) else []
    trained = made(*masked, f"model={architecture}", *ARCHITECTURES[architecture], *overrides)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    asked = [p.requires_grad for p in trained.model.parameters()]
    assert len(names_of(trained)) == len(MAPS) + len(masked)
    together = compute_maps(trained, pictures(2), names_of(trained))
    for name, maps in together.items():
        assert np.array_equal(maps, compute_maps(trained, pictures(2), [name])[name])
        assert maps.shape == (2, 64, 64)
        assert maps.dtype == np.float32
        assert maps.min() >= 0
        assert set(maps.max(axis=(1, 2))) <= {0.0, 1.0}
    assert [p.requires_grad for p in trained.model.parameters()] == asked
    assert all(p.grad is None for p in trained.model.parameters())
    assert not any(m._forward_hooks or m.training for m in trained.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())


@pytest.mark.parametrize("name", MAPS)
def test_a_crop_s_map_lies_where_the_crop_was(made, name):
    whole, cropped = made("augment.crop=1"), made("augment.crop=0.5")
    images = pictures(2)
    found = MAPS[name](cropped, images)
    middle = np.s_[:, 16:48, 16:48]
    assert np.allclose(found[middle], MAPS[name](whole, images[:, :, 16:48, 16:48]), atol=1e-5)
    found[middle] = 0
    assert not found.any()


@pytest.mark.parametrize("name", MAPS)
def test_an_image_s_map_is_its_own(made, name):
    """Whatever batch it comes in: five images go in batches of three here."""
    trained = made()
    images = pictures(5)
    alone = np.concatenate([MAPS[name](trained, image[None]) for image in images])
    with torch.no_grad():
        assert np.allclose(MAPS[name](trained, images), alone, atol=1e-4)


def test_a_model_without_feature_maps_is_said(made):
    trained = made(backbone=nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), n_features=4)
    with pytest.raises(InputError, match="this one has none"):
        grad_cam(trained, pictures(side=16))
    assert saliency(trained, pictures(side=16)).max() == 1


def test_what_a_mask_head_draws_lies_where_it_draws(made):
    """A head that copies the brightness of its finest map's first channel."""
    trained = made("model.mask_head=true")
    images = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    images[0, :, :16, :16] = 255
    images[1, :, 48:, 32:48] = 255
    trained.model.mask_head.forward = lambda maps: F.avg_pool2d(seen[0], 4) * 10
    seen = []
    forward = trained.model.forward
    trained.model.forward = lambda x, drawing=False: (seen.clear(), seen.append(x), forward(x, drawing))[2]
    found = compute_maps(trained, images, ["mask_head"])["mask_head"]
    assert found[0, :16, :16].mean() > 0.9 > 0.2 > found[0, 32:, 32:].mean()
    assert found[1, 48:, 32:48].mean() > 0.9 > 0.2 > found[1, :32].mean()
