"""The weights that a run begins with, and what they have been trained on before."""

from dataclasses import dataclass
from pathlib import Path

from pneumo.components.weights import read_tensors
from pneumo.errors import InputError
from pneumo.runs import checkpoint, identity, query
from pneumo.runs.identity import DatasetIdentity, SeenImages
from pneumo.runs.resume import RUN_ID

UNKNOWN = "weights whose training images are not known"


@dataclass(frozen=True)
class WarmStart:
    """`seen`: the images that the weights have been trained on, None where a checkpoint of ours does not say;
    `images` and `split_hash`: of the run that they are from, where they are ours."""

    given: str  # as model.pretrained says it
    seen: SeenImages | None
    images: DatasetIdentity | None = None
    split_hash: str | None = None

    def differences(self, now: DatasetIdentity) -> list[str]:
        """What is not as it was in those images that the run of these weights had too."""
        return identity.differences(self.images, now, shared_only=True) if self.images else []

    def leak_risk(self, images: DatasetIdentity, split_hash: str, allowed: bool) -> str | None:
        """Why the validation and test images may have been trained on; None where they have not.
        InputError: they have, and it is not `allowed`."""
        if self.seen is None:
            return None if self.split_hash == split_hash else UNKNOWN
        found = identity.leaked_images(self.seen, images)
        if found is None:
            return None
        if not allowed:
            raise InputError(
                f"model.pretrained={self.given} has been trained on {found} of this split, so that their "
                "figures would not be of unseen images.\nStart from weights of the same split, or "
                "model.allow_leak=true goes on and tags the run with it"
            )
        return f"pretrained on {found}"


def warm_start(pretrained: str | None) -> WarmStart:
    """Of model.pretrained: null, imagenet, a file, or the id of a run whose best weights are meant.
    InputError: there is no such run or file, or it holds no weights."""
    if pretrained in (None, "imagenet"):
        return WarmStart(str(pretrained), SeenImages.nothing())
    assert pretrained is not None
    file = pretrained
    if RUN_ID.fullmatch(pretrained):
        file = str(query.checkpoint_file(pretrained, checkpoint.BEST))
    state = read_tensors(Path(file), f"model.pretrained={file}")
    if not checkpoint.is_ours(state):
        return WarmStart(pretrained, SeenImages.nothing())
    images, seen = checkpoint.images_of(state), checkpoint.seen_of(state)
    return WarmStart(pretrained, seen, images, state["split_hash"])
