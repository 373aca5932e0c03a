"""Models: each is called with a number of outputs and returns a network from (B, 1, H, W) floats to
(B, n_outputs) logits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pneumo.components.mask_head import MaskHead, staged, stages
from pneumo.components.weights import read_tensors
from pneumo.errors import InputError, check_settings

Weights = Mapping[str, Tensor]


class Classifier(nn.Module):
    """A backbone from (B, 1, H, W) images to (B, n_features), dropout and one linear layer. Frozen modules
    keep their weights and batch-norm statistics in training mode too.

    A mask head segments lesions from the backbone's maps; the highest of its logits is added to the output,
    with a learned weight that starts at 0."""

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
        """Returns the logits (B, n_outputs) of images, or of (B, n_features) outputs of the backbone. With
        `drawing`, returns also the lesion logits (B, 1, h, w) of the mask head, coarser than the images."""
        if self.mask_head is None:
            features = self.backbone(images) if images.ndim == 4 else images
            return self.head(self.dropout(features))
        maps, features = staged(self.backbone, images, self.mask_head.stages)
        lesions = self.mask_head(maps)
        logits = self.head(self.dropout(features)) + self.evidence(lesions.amax(dim=(2, 3)))
        return (logits, lesions) if drawing else logits

    def with_mask_head(self) -> Self:
        """Adds an untrained mask head, and returns this model."""
        self.mask_head = MaskHead(stages(self.backbone))
        self.evidence = nn.Linear(1, self.head.out_features, bias=False)
        nn.init.zeros_(self.evidence.weight)
        return self

    def without_mask_head(self) -> Self:
        """Removes the mask head, if there is one, and returns this model."""
        if self.mask_head is not None:
            self.mask_head = None
            del self.evidence
        return self

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings of all models.

    `pretrained` is null, `imagenet`, or a file with torchvision's weights or with a checkpoint of a run (a
    run id is replaced by its checkpoint before). `allow_leak` accepts a checkpoint that was trained on images
    which are now in the validation or test split. `freeze` names the modules that training does not change.
    `mask_head` adds a head that learns from lesion masks, to a network that applies its children in order;
    "auto" adds it where the network can have one and its backbone is trained, and a run without lesion masks
    removes it again."""

    pretrained: str | None = None
    allow_leak: bool = False
    dropout: float = field(default=0.0, metadata={"at_least": 0, "below": 1})
    freeze: str = field(default="none", metadata={"one_of": ("none", "backbone", "batchnorm")})
    mask_head: bool | str = field(default=False, metadata={"one_of": (True, False, "auto")})

    def __post_init__(self) -> None:
        check_settings("model", self)

    @property
    def takes_mask_head(self) -> bool:
        """Whether the backbone applies its children in order, as a mask head needs."""
        return False

    @property
    def gives_features(self) -> bool:
        """Whether the backbone stays as it is, so that its features can be computed once."""
        return self.freeze == "backbone" and self.mask_head is not True

    def backbone(self) -> tuple[nn.Module, int]:
        """Returns an untrained backbone and its number of features."""
        raise NotImplementedError

    def imagenet(self) -> Weights:
        """Returns ImageNet weights for the backbone, whose first kernels are over RGB. Raises InputError if
        there are none or they cannot be downloaded."""
        raise NotImplementedError

    def __call__(self, n_outputs: int) -> Classifier:
        backbone, n_features = self.backbone()
        model = Classifier(backbone, n_features, n_outputs, self.dropout, self.freeze)
        if self.mask_head is True and not self.takes_mask_head:
            raise InputError("model.mask_head=true needs model=tiny or a resnet")
        if self.mask_head and self.takes_mask_head and not self.gives_features:
            model.with_mask_head()
        if self.pretrained == "imagenet":
            load_backbone(model, self.imagenet(), "imagenet")
        elif self.pretrained is not None:
            load_file(model, Path(self.pretrained))
        return model


@dataclass(frozen=True, kw_only=True)
class Tiny(ModelConfig):
    """A small ResNet for CPUs: a convolution at full resolution with `stem_width` channels (null: `width`),
    where most of the time goes; four stages of one basic block, with `width` x 1, 2, 4 and 8 channels, each
    of which halves the side; then average and maximum over the last map, since most lesions are small."""

    width: int = field(default=16, metadata={"at_least": 1, "at_most": 10_000})
    stem_width: int | None = field(default=None, metadata={"at_least": 1, "at_most": 10_000})

    @property
    def takes_mask_head(self) -> bool:
        return True

    def backbone(self) -> tuple[nn.Module, int]:
        widths = [self.width * factor for factor in (1, 2, 4, 8)]
        first = self.stem_width or self.width
        stages = [Block(narrow, wide) for narrow, wide in zip([first, *widths], widths, strict=False)]
        stem = [nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
        return nn.Sequential(*stem, *stages, AverageAndMaximum()), 2 * widths[-1]

    def imagenet(self) -> Weights:
        raise InputError("model=tiny has no ImageNet weights: use model.pretrained=null, a file or a run")


class Block(nn.Module):
    """The basic block of He et al. 2016, which halves the side. The skip connection averages before its 1x1
    convolution (He et al. 2019, "Bag of tricks"): a strided one corrupts the memory of torch 2.15 on a CPU,
    in fp32 and channels_last with fewer than 16 channels."""

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
    """Pools maps (B, C, H, W) to their averages and maxima (B, 2C)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


@dataclass(frozen=True, kw_only=True)
class Torchvision(ModelConfig):
    """A classifier of torchvision, named `arch` as there, with one input channel and without its head."""

    arch: str

    @property
    def takes_mask_head(self) -> bool:
        return self.arch.startswith("resnet")

    def backbone(self) -> tuple[nn.Module, int]:
        from torchvision import models  # takes as long to import as torch itself

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
                f"The ImageNet weights of {self.arch} could not be downloaded ({error}).\n"
                f"Use a file, model.pretrained=/path/{self.arch}.pth, or model.pretrained=null for none."
            ) from error
        return weights


@dataclass(frozen=True)
class Family:
    """Names of modules in a family of torchvision's networks: the last linear layer, the head that is
    removed, and the first convolution."""

    linear: str
    head: str
    stem: str


FAMILIES = {
    "resnet": Family("fc", "fc", "conv1"),
    "densenet": Family("classifier", "classifier", "features.conv0"),
    "convnext": Family("classifier.2", "classifier.2", "features.0.0"),
    "efficientnet": Family("classifier.1", "classifier", "features.0.0"),
}
MASK_HEAD = "mask_head."  # before the names of its weights in a checkpoint
LEGACY_DENSENET = re.compile(r"\.(norm|conv)\.([12])\.")  # names in the published DenseNet files


@dataclass(frozen=True, kw_only=True)
class Timm(ModelConfig):
    """A network of timm, named `name` as there, with one input channel and without its head."""

    name: str

    def backbone(self) -> tuple[nn.Module, int]:
        network = self._made(pretrained=False, in_chans=1)
        return network, int(network.head_hidden_size)

    def imagenet(self) -> Weights:
        try:
            weights: Weights = self._made(pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"The weights of timm's {self.name} could not be downloaded ({str(error).splitlines()[0]}).\n"
                "Use a file, model.pretrained=/path/weights.pth, or model.pretrained=null for none."
            ) from error
        return weights

    def _made(self, **options: Any) -> Any:
        try:
            import timm
        except ImportError:
            raise InputError("model=timm needs its package: pip install 'pneumo[timm]'") from None
        if not timm.is_model(self.name):
            close = ", ".join(get_close_matches(self.name, timm.list_models(), 3)) or "see timm.list_models()"
            raise InputError(f"model.name={self.name!r}: timm has no such model; similar names: {close}")
        return timm.create_model(self.name, num_classes=0, **options)


def load_file(model: Classifier, path: Path) -> None:
    """Loads torchvision's weights into the backbone, or a checkpoint of a run into backbone, head and, where
    both have one, mask head; what gives the logits is converted between one and two outputs. Raises
    InputError if the file does not fit the model."""
    content = read_tensors(path, f"model.pretrained={path}")
    weights = next((value for value in (content.get("model"), content) if isinstance(value, Mapping)), {})
    backbone = {k[9:]: v for k, v in weights.items() if k.startswith("backbone.")}
    if not backbone or "head.weight" not in weights:
        return load_backbone(model, weights, str(path))
    load_backbone(model, backbone, str(path))
    head = converted_head(weights["head.weight"], weights["head.bias"], model.head.out_features)
    model.head.load_state_dict(dict(zip(("weight", "bias"), head, strict=True)))
    if model.mask_head is not None and has_mask_head(weights):
        drawing = {k.removeprefix(MASK_HEAD): v for k, v in weights.items() if k.startswith(MASK_HEAD)}
        load_module(model.mask_head, drawing, str(path))
        evidence = weights["evidence.weight"]
        weight, _ = converted_head(evidence, torch.zeros(len(evidence)), model.evidence.out_features)
        model.evidence.load_state_dict({"weight": weight})
    return None


def has_mask_head(weights: Weights) -> bool:
    """Whether these weights of a checkpoint are of a model with a mask head."""
    return "evidence.weight" in weights


def load_backbone(model: Classifier, weights: Weights, origin: str) -> None:
    """Loads the backbone's weights and ignores all others. Raises InputError as `load_module`."""
    weights = {LEGACY_DENSENET.sub(r".\1\2.", str(name)): value for name, value in weights.items()}
    load_module(model.backbone, weights, origin)


def load_module(module: nn.Module, weights: Weights, origin: str) -> None:
    """Loads the weights of a part of the model and ignores all others; kernels over RGB are summed to kernels
    over grey. Raises InputError, which names `origin`, if weights are missing or have another shape."""
    wanted = module.state_dict()
    if missing := [name for name in wanted if name not in weights]:
        raise InputError(
            f"model.pretrained={origin} is of another model: it lacks {missing[0]} "
            f"and {len(missing) - 1} more of {len(wanted)} weights"
        )
    fitting = {}
    for name, own in wanted.items():
        given = weights[name]
        if not isinstance(given, Tensor):
            raise InputError(f"model.pretrained={origin}: {name} is a {type(given).__name__}, not a tensor")
        if given.ndim == 4 and given.shape[1] == 3 and own.shape[1] == 1:
            given = given.sum(dim=1, keepdim=True)
        if given.shape != own.shape:
            raise InputError(
                f"model.pretrained={origin} is of another model: "
                f"{name} is {tuple(given.shape)}, needed {tuple(own.shape)}"
            )
        fitting[name] = given
    module.load_state_dict(fitting)


def converted_head(weight: Tensor, bias: Tensor, n_outputs: int) -> tuple[Tensor, Tensor]:
    """Returns weight and bias of a head with `n_outputs` that gives the same log odds: one logit is the
    difference of two."""
    match len(weight), n_outputs:
        case (2, 1):
            return weight[1:] - weight[:1], bias[1:] - bias[:1]
        case (1, 2):
            return torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight, bias
