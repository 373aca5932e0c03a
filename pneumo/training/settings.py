"""The settings of the config group `fit`, with their ranges."""

from dataclasses import dataclass, field

from pneumo.errors import InputError, check_settings


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """`conf/train.yaml` says what each field means. InputError: a value is out of range."""

    epochs: int = field(metadata={"at_least": 1})
    batch_size: int = field(metadata={"at_least": 1})
    accumulation_steps: int = field(default=1, metadata={"at_least": 1})
    clip_norm: float | None = field(default=None, metadata={"above": 0})
    precision: str = "auto"
    channels_last: bool = True
    device: str = "auto"
    deterministic: bool = False
    compile: bool = False
    ema_decay: float | None = field(default=None, metadata={"above": 0, "below": 1})
    checkpoint_minutes: float | None = field(default=15, metadata={"above": 0})
    cache_features: str | int | None = "auto"
    profile: bool = False
    few_images: int | None = field(default=None, metadata={"at_least": 2})
    positive_share: float | None = field(default=None, metadata={"above": 0, "below": 1})
    mask_weight: float = field(default=1.0, metadata={"above": 0})
    rescue: bool = False
    test: bool = True
    pictures: bool = True

    def __post_init__(self) -> None:
        check_settings("fit", self)
        if not (
            self.cache_features in ("auto", None)
            or (isinstance(self.cache_features, int) and self.cache_features > 0)
        ):
            raise InputError(
                "fit.cache_features must be auto, null, or a number of augmented views of at least 1, "
                f"got {self.cache_features!r}"
            )

    @property
    def effective_batch(self) -> int:
        """Images per optimizer step of one process; with torchrun each of the others adds as many."""
        return self.batch_size * self.accumulation_steps
