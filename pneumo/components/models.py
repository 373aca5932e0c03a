"""Models: each takes its number of outputs and gives a network from (B, 1, H, W) floats to
(B, n_outputs) logits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pneumo.components.mask_head import MaskHead, staged, stages
from pneumo.components.weights import read_tensors
from pneumo.errors import InputError

FREEZES = ("none", "backbone", "batchnorm")
Weights = Mapping[str, Tensor]


class Classifier(nn.Module):
    """A backbone (B, 1, H, W) -> (B, n_features), dropout, one linear layer. What is frozen keeps its
    weights and its batch-norm statistics, whatever mode the rest is in.

    A mask head draws lesions from the backbone's maps; the highest of its logits is added to the answer,
    with a weight that is learned from 0."""

    def __init__(self, backbone: nn.Module, n_features: int, n_outputs: int, dropout: float, freeze: str):
        super().__init__()
        self.backbone, self.dropout = backbone, nn.Dropout(dropout)
        self.head = nn.Linear(n_features, n_outputs)
        self.mask_head: MaskHead | None = None
        norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
        frozen: dict[str, list[nn.Module]] = {"none": [], "backbone": [backbone], "batchnorm": [*norms]}
        self._frozen = frozen[freeze]
        for module in self._frozen:
            module.requires_grad_(False)

    def forward(self, images: Tensor, drawing: bool = False) -> Any:
        """Logits, of images or of (B, n_features) that have passed the backbone already; where `drawing`,
        also the mask head's lesion logits (B, 1, h, w), coarser than the images."""
        if self.mask_head is None:
            features = self.backbone(images) if images.ndim == 4 else images
            return self.head(self.dropout(features))
        maps, features = staged(self.backbone, images, self.mask_head.stages)
        drawn = self.mask_head(maps)
        logits = self.head(self.dropout(features)) + self.evidence(drawn.amax(dim=(2, 3)))
        return (logits, drawn) if drawing else logits

    def with_mask_head(self) -> Self:
        self.mask_head = MaskHead(stages(self.backbone))
        self.evidence = nn.Linear(1, self.head.out_features, bias=False)
        nn.init.zeros_(self.evidence.weight)
        return self

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`pretrained`: null, `imagenet`, or a file: torchvision's weights or a checkpoint of ours (a run id
    becomes such a file before it arrives here). `allow_leak`: also one that was trained on images that are
    now validated or tested on. `freeze`: what training leaves as it is. `mask_head`: lesion masks teach where
    to look; for networks that are their children one after another."""

    @property
    def takes_mask_head(self) -> bool:
        return False

    pretrained: str | None = None
    allow_leak: bool = False
    dropout: float = 0.0
    freeze: str = "none"
    mask_head: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout must lie in [0, 1), got {self.dropout}")
        if self.freeze not in FREEZES:
            raise InputError(f"model.freeze must be one of {', '.join(FREEZES)}, got {self.freeze!r}")

    @property
    def gives_features(self) -> bool:
        """Whether all that training changes comes after the backbone."""
        return self.freeze == "backbone" and not self.mask_head

    def backbone(self) -> tuple[nn.Module, int]:
        """An untrained backbone and its number of features."""
        raise NotImplementedError

    def imagenet(self) -> Weights:
        """ImageNet weights for the backbone, first kernels still RGB. InputError: they cannot be had."""
        raise NotImplementedError

    def __call__(self, n_outputs: int) -> Classifier:
        backbone, n_features = self.backbone()
        model = Classifier(backbone, n_features, n_outputs, self.dropout, self.freeze)
        if self.mask_head:
            if not self.takes_mask_head:
                raise InputError("model.mask_head=true needs model=tiny or a resnet")
            model.with_mask_head()
        if self.pretrained == "imagenet":
            load_backbone(model, self.imagenet(), "imagenet")
        elif self.pretrained is not None:
            load_file(model, Path(self.pretrained))
        return model


@dataclass(frozen=True, kw_only=True)
class Tiny(ModelConfig):
    """A small ResNet for CPUs: four stages of `width` x 1, 2, 4, 8 channels, each halving the side, one
    basic block a stage; average and maximum over the last map, since most lesions are small."""

    width: int = 16

    @property
    def takes_mask_head(self) -> bool:
        return True

    def backbone(self) -> tuple[nn.Module, int]:
        widths = [self.width * factor for factor in (1, 2, 4, 8)]
        stages = [Block(narrow, wide) for narrow, wide in zip([self.width, *widths], widths, strict=False)]
        stem = [nn.Conv2d(1, self.width, 3, padding=1, bias=False), nn.BatchNorm2d(self.width), nn.ReLU()]
        return nn.Sequential(*stem, *stages, AverageAndMaximum()), 2 * widths[-1]

    def imagenet(self) -> Weights:
        raise InputError("model=tiny has no ImageNet weights: model.pretrained=null, a file or a run of ours")


class Block(nn.Module):
    """He et al. 2016's basic block, halving the side. The skip averages before its 1x1 convolution (He et
    al. 2019, "Bag of tricks"); a strided one corrupts torch 2.15's memory, in fp32, channels_last and under
    16 channels on a CPU."""

    def __init__(self, narrow: int, wide: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.skip = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class AverageAndMaximum(nn.Module):
    """(B, C, H, W) -> (B, 2C)"""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


@dataclass(frozen=True, kw_only=True)
class Torchvision(ModelConfig):
    """One of torchvision's classifiers by its name there, with one input channel and without its head.
    torchvision is imported when one is built: it takes as long as torch itself."""

    arch: str

    @property
    def takes_mask_head(self) -> bool:
        return self.arch.startswith("resnet")

    def backbone(self) -> tuple[nn.Module, int]:
        from torchvision import models

        known = [name for name in models.list_models(models) if name.startswith(tuple(FAMILIES))]
        if self.arch not in known:
            raise InputError(f"model.arch must be one of {', '.join(known)}, got {self.arch!r}")
        network = models.get_model(self.arch, weights=None)
        family = next(family for prefix, family in FAMILIES.items() if self.arch.startswith(prefix))
        n_features = network.get_submodule(family.linear).in_features
        network.set_submodule(family.head, nn.Identity())
        rgb = network.get_submodule(family.stem)
        bias = rgb.bias is not None
        grey = nn.Conv2d(1, rgb.out_channels, rgb.kernel_size, rgb.stride, rgb.padding, bias=bias)
        nn.init.kaiming_normal_(grey.weight, mode="fan_out", nonlinearity="relu")
        network.set_submodule(family.stem, grey)
        return network, n_features

    def imagenet(self) -> Weights:
        from torchvision import models

        try:
            weights: Weights = models.get_model(self.arch, weights="DEFAULT").state_dict()
        except (URLError, OSError) as error:
            raise InputError(
                f"The ImageNet weights of {self.arch} are not here and could not be fetched ({error}).\n"
                f"Give a file: model.pretrained=/path/{self.arch}.pth, or start from scratch: "
                "model.pretrained=null."
            ) from error
        return weights


@dataclass(frozen=True)
class Family:
    """Where torchvision's networks have their last layer, what is taken off, and their first convolution."""

    linear: str
    head: str
    stem: str


FAMILIES = {
    "resnet": Family("fc", "fc", "conv1"),
    "densenet": Family("classifier", "classifier", "features.conv0"),
    "convnext": Family("classifier.2", "classifier.2", "features.0.0"),
    "efficientnet": Family("classifier.1", "classifier", "features.0.0"),
}
LEGACY_DENSENET = re.compile(r"\.(norm|conv)\.([12])\.")  # names in the published DenseNet files


@dataclass(frozen=True, kw_only=True)
class Timm(ModelConfig):
    """One of timm's networks by its `name` there, with one input channel and without its head."""

    name: str

    def backbone(self) -> tuple[nn.Module, int]:
        network = self._made(pretrained=False, in_chans=1)
        return network, int(network.head_hidden_size)

    def imagenet(self) -> Weights:
        try:
            weights: Weights = self._made(pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"The weights of timm's {self.name} are not here and could not be fetched "
                f"({str(error).splitlines()[0]}).\n"
                "Give a file: model.pretrained=/path/weights.pth, or start from scratch: "
                "model.pretrained=null."
            ) from error
        return weights

    def _made(self, **options: Any) -> Any:
        try:
            import timm
        except ImportError:
            raise InputError("model=timm needs its package: pip install 'pneumo[timm]'") from None
        if not timm.is_model(self.name):
            alike = ", ".join(get_close_matches(self.name, timm.list_models(), 3)) or "see timm.list_models()"
            raise InputError(f"model.name={self.name!r}: timm has no such model; alike: {alike}")
        return timm.create_model(self.name, num_classes=0, **options)


def load_file(model: Classifier, path: Path) -> None:
    """A checkpoint of ours, head and all (converted between one and two outputs), or torchvision weights."""
    content = read_tensors(path, f"model.pretrained={path}")
    weights = content.get("model", content)
    if "head.weight" not in weights:
        return load_backbone(model, weights, str(path))
    load_backbone(model, {k[9:]: v for k, v in weights.items() if k.startswith("backbone.")}, str(path))
    head = converted_head(weights["head.weight"], weights["head.bias"], model.head.out_features)
    model.head.load_state_dict(dict(zip(("weight", "bias"), head, strict=True)))
    return None


def load_backbone(model: Classifier, weights: Weights, origin: str) -> None:
    """Weights for another head are left out; kernels over RGB are summed to kernels over grey."""
    weights = {LEGACY_DENSENET.sub(r".\1\2.", name): value for name, value in weights.items()}
    wanted = model.backbone.state_dict()
    if missing := [name for name in wanted if name not in weights]:
        raise InputError(
            f"model.pretrained={origin} is of another model: it lacks {missing[0]} "
            f"and {len(missing) - 1} more of {len(wanted)} weights"
        )
    fitting = {}
    for name, own in wanted.items():
        given = weights[name]
        if given.ndim == 4 and given.shape[1] == 3 and own.shape[1] == 1:
            given = given.sum(dim=1, keepdim=True)
        if given.shape != own.shape:
            raise InputError(
                f"model.pretrained={origin} is of another model: "
                f"{name} is {tuple(given.shape)}, needed {tuple(own.shape)}"
            )
        fitting[name] = given
    model.backbone.load_state_dict(fitting)


def converted_head(weight: Tensor, bias: Tensor, n_outputs: int) -> tuple[Tensor, Tensor]:
    """The same log odds from another number of outputs: one logit is the difference of two."""
    match len(weight), n_outputs:
        case (2, 1):
            return weight[1:] - weight[:1], bias[1:] - bias[:1]
        case (1, 2):
            return torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight, bias
