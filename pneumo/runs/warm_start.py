"""The pretrained weights with which a run starts, and the images on which they were trained."""

from dataclasses import dataclass

from pneumo.components.models import has_mask_head
from pneumo.components.weights import read_tensors
from pneumo.errors import InputError
from pneumo.runs import checkpoint, identity
from pneumo.runs.identity import DatasetIdentity, SeenImages
from pneumo.runs.resume import checkpoint_path

UNKNOWN = "weights whose training images are not known"


@dataclass(frozen=True)
class WarmStart:
    """The origin of weights: `seen` are the images on which they were trained, None where a checkpoint does
    not record them; `images` and `split_hash` are those of the pneumo run that wrote them, whose model may
    have a mask head."""

    pretrained: str  # the value of model.pretrained
    seen: SeenImages | None
    images: DatasetIdentity | None = None
    split_hash: str | None = None
    with_mask_head: bool = False

    def differences(self, now: DatasetIdentity) -> list[str]:
        """What has changed in the images that the run of these weights had too, a line each."""
        return identity.differences(self.images, now, shared_only=True) if self.images else []

    def leak_risk(self, images: DatasetIdentity, split_hash: str, allowed: bool) -> str | None:
        """Why the weights may have been trained on validation or test images; None if they were not.
        InputError: they were, and that is not `allowed`."""
        if self.seen is None:
            return None if self.split_hash == split_hash else UNKNOWN
        leaked = identity.leaked_images(self.seen, images)
        if leaked and not allowed:
            raise InputError(
                f"model.pretrained={self.pretrained} has been trained on {leaked} of this split, so that "
                "their metrics would not be of unseen images.\nStart from weights of the same split, or set "
                "model.allow_leak=true, with which the run continues and is tagged with the leak"
            )
        return f"pretrained on {leaked}" if leaked else None


def warm_start(pretrained: str | None) -> WarmStart:
    """The origin of model.pretrained: null, imagenet, a file, or the id of a run, which stands for its best
    weights. InputError: there is no such run or file, or it contains no weights."""
    nothing = WarmStart(str(pretrained), SeenImages.nothing())
    if pretrained is None or pretrained == "imagenet":
        return nothing
    file = checkpoint_path(pretrained, checkpoint.BEST)
    state = read_tensors(file, f"model.pretrained={file}")
    if not checkpoint.is_ours(state):
        return nothing
    images, seen = checkpoint.images_of(state), checkpoint.seen_of(state)
    return WarmStart(pretrained, seen, images, state["split_hash"], has_mask_head(state["model"]))
