import pytest
import torch
from torch import nn

from pneumo.components.losses import Bce, CrossEntropy
from pneumo.components.models import LEGACY_DENSENET, Tiny, Torchvision, converted_head
from pneumo.errors import InputError

SMALL = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "model", [Tiny(), Torchvision(arch="resnet18"), Torchvision(arch="densenet121")], ids=repr
)
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_one_grey_channel_in_as_many_outputs_as_the_loss_needs(model, n_outputs):
    assert model(n_outputs)(SMALL).shape == (2, n_outputs)


def buffers(network):
    return {name: value.clone() for name, value in network.backbone.state_dict().items()}


def trained_a_little(network):
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network.train()
    for _ in range(3):
        optimizer.zero_grad()
        network(SMALL).sum().backward()
        optimizer.step()
    return network


def test_a_frozen_backbone_is_bit_equal_after_training_with_its_statistics():
    network = Tiny(freeze="backbone")(1)
    before, head = buffers(network), network.head.weight.clone()
    trained_a_little(network)
    assert all(torch.equal(before[name], value) for name, value in buffers(network).items())
    assert not torch.equal(head, network.head.weight)


def test_frozen_batch_norms_stand_still_while_convolutions_learn():
    network = Tiny(freeze="batchnorm")(1)
    before = buffers(network)
    trained_a_little(network)
    after = buffers(network)
    norms = {name for name, m in network.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    moved = {name.rsplit(".", 1)[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not moved & norms


def test_nothing_frozen_means_that_statistics_move():
    network = Tiny()(1)
    before = buffers(network)
    trained_a_little(network)
    assert not torch.equal(before["1.running_mean"], buffers(network)["1.running_mean"])


def test_rgb_kernels_are_summed_so_that_grey_as_rgb_gives_the_same(tmp_path):
    import torchvision

    torch.manual_seed(0)
    rgb = torchvision.models.resnet18(weights=None).eval()
    torch.save(rgb.state_dict(), tmp_path / "resnet18.pth")
    ours = Torchvision(arch="resnet18", pretrained=str(tmp_path / "resnet18.pth"))(1).eval()
    rgb.fc = nn.Identity()
    with torch.no_grad():
        assert torch.allclose(ours.backbone(SMALL), rgb(SMALL.expand(-1, 3, -1, -1)), atol=1e-4)


def test_the_published_densenet_names_are_understood(tmp_path):
    import re

    import torchvision

    own = torchvision.models.densenet121(weights=None).state_dict()
    published = {re.sub(r"(denselayer\d+\.)(norm|conv)([12])\.", r"\1\2.\3.", k): v for k, v in own.items()}
    assert any(LEGACY_DENSENET.search(name) for name in published)
    torch.save(published, tmp_path / "densenet.pth")
    Torchvision(arch="densenet121", pretrained=str(tmp_path / "densenet.pth"))(1)


@pytest.mark.parametrize(("before", "after"), [(CrossEntropy(), Bce()), (Bce(), CrossEntropy())])
def test_a_warm_start_with_another_loss_keeps_the_probabilities(before, after, tmp_path):
    network = Tiny(width=4)(before.n_outputs).eval()
    torch.save({"model": network.state_dict(), "run_id": "x"}, tmp_path / "best.pt")
    again = Tiny(width=4, pretrained=str(tmp_path / "best.pt"))(after.n_outputs).eval()
    with torch.no_grad():
        assert torch.allclose(before.probability(network(SMALL)), after.probability(again(SMALL)), atol=1e-6)


@pytest.mark.parametrize(
    ("before", "after"), [(CrossEntropy(), Bce()), (Bce(), CrossEntropy()), (Bce(), Bce())]
)
def test_a_warm_start_takes_over_the_mask_head_and_its_evidence(before, after, tmp_path):
    network = trained_a_little(Tiny(width=4, mask_head=True)(before.n_outputs)).eval()
    nn.init.normal_(network.evidence.weight)
    torch.save({"model": network.state_dict(), "run_id": "x"}, tmp_path / "best.pt")
    again = Tiny(width=4, pretrained=str(tmp_path / "best.pt"), mask_head="auto")(after.n_outputs).eval()
    with torch.no_grad():
        assert torch.allclose(before.probability(network(SMALL)), after.probability(again(SMALL)), atol=1e-6)
        assert torch.equal(network(SMALL, drawing=True)[1], again(SMALL, drawing=True)[1])


def test_a_mask_head_that_is_not_whole_is_refused(tmp_path):
    weights = Tiny(width=4, mask_head=True)(1).state_dict()
    del weights["mask_head.smooth.0.weight"]
    torch.save({"model": weights, "run_id": "x"}, tmp_path / "best.pt")
    with pytest.raises(InputError, match=r"is of another model: it lacks smooth\.0\.weight"):
        Tiny(width=4, pretrained=str(tmp_path / "best.pt"), mask_head=True)(1)


def test_a_model_without_a_mask_head_takes_what_it_has_of_one_with_it(tmp_path):
    network = Tiny(width=4, mask_head=True)(1)
    torch.save({"model": network.state_dict(), "run_id": "x"}, tmp_path / "best.pt")
    again = Tiny(width=4, pretrained=str(tmp_path / "best.pt"))(1)
    assert torch.equal(again.head.weight, network.head.weight)


def test_an_equal_head_is_taken_as_it_is():
    weight, bias = torch.randn(2, 5), torch.randn(2)
    assert converted_head(weight, bias, 2) == (weight, bias)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there"),
        (b"not weights", "is not a file of weights"),
        ({"head.weight": torch.zeros(1, 1)}, "is of another model: it lacks"),
        ([1, 2], "it holds a list"),
        ({"model": "resnet18", "state_dict": {}}, "is of another model: it lacks"),
        ({**Tiny(width=4)(1).backbone.state_dict(), "0.weight": 3}, "0.weight is a int, not a tensor"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(content, message, tmp_path):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as refused:
        Tiny(pretrained=str(path))(1)
    assert str(path) in str(refused.value)


def test_a_backbone_in_a_file_with_another_head_is_taken(tmp_path):
    weights = Tiny(width=4)(1).backbone.state_dict()
    torch.save({**weights, "head.weight": torch.zeros(1000, 64)}, tmp_path / "weights.pt")
    loaded = Tiny(width=4, pretrained=str(tmp_path / "weights.pt"))(1).backbone.state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_weights_of_another_width_are_refused_by_shape(tmp_path):
    torch.save(Tiny(width=8)(1).state_dict(), tmp_path / "wide.pt")
    with pytest.raises(InputError, match=r"0.weight is \(8, 1, 3, 3\), needed \(4, 1, 3, 3\)"):
        Tiny(width=4, pretrained=str(tmp_path / "wide.pt"))(1)


def test_without_a_network_imagenet_names_the_way_out(monkeypatch, tmp_path):
    from urllib.error import URLError

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(URLError("no network")))
    with pytest.raises(InputError, match=r"model.pretrained=/path/resnet50.pth.*model.pretrained=null"):
        Torchvision(arch="resnet50", pretrained="imagenet")(1)


def test_tiny_has_no_imagenet_weights_and_says_so():
    with pytest.raises(InputError, match=r"no ImageNet weights: use model\.pretrained=null"):
        Tiny(pretrained="imagenet")(1)


def test_an_unknown_architecture_or_freeze_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"resnet18, resnet34.*got 'resnet19'"):
        Torchvision(arch="resnet19")(1)
    with pytest.raises(InputError, match="none, backbone, batchnorm, got 'all'"):
        Tiny(freeze="all")
