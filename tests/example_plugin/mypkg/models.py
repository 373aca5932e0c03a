from dataclasses import dataclass

from torch import nn

from pneumo.components.models import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Plain(ModelConfig):
    width: int = 32

    def backbone(self) -> tuple[nn.Module, int]:
        layers = [nn.Conv2d(1, self.width, 7, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers), self.width
