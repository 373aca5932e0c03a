from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pneumo.components.losses import Loss


@dataclass(frozen=True, kw_only=True)
class Hinge(Loss):
    margin: float = 1.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.relu(self.margin - (2 * labels - 1) * logits.float().squeeze(1)).mean()
