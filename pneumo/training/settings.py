"""The settings of the config group `fit`, with their ranges."""

from dataclasses import dataclass

from pneumo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """`conf/train.yaml` says what each field means. InputError: a value is out of range."""

    epochs: int
    batch_size: int
    accumulation_steps: int = 1
    clip_norm: float | None = None
    precision: str = "auto"
    channels_last: bool = True
    device: str = "auto"
    deterministic: bool = False
    compile: bool = False
    ema_decay: float | None = None
    checkpoint_minutes: float | None = 15
    cache_features: str | int | None = "auto"
    profile: bool = False
    few_images: int | None = None
    positive_share: float | None = None
    mask_weight: float = 1.0
    test: bool = True
    pictures: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation_steps"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"fit.{name} must be at least 1, got {value}")
        for name in ("ema_decay", "positive_share"):
            if (value := getattr(self, name)) is not None and not 0 < value < 1:
                raise InputError(f"fit.{name} must lie between 0 and 1, or be null, got {value}")
        for name in ("checkpoint_minutes", "clip_norm"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise InputError(f"fit.{name} must be above 0, or null, got {value}")
        if not (
            self.cache_features in ("auto", None)
            or (isinstance(self.cache_features, int) and self.cache_features > 0)
        ):
            raise InputError(
                "fit.cache_features must be auto, null, or a number of augmented views of at least 1, "
                f"got {self.cache_features!r}"
            )
        if self.few_images is not None and self.few_images < 2:
            raise InputError(f"fit.few_images must be at least 2, or null, got {self.few_images}")
        if not self.mask_weight > 0:
            raise InputError(f"fit.mask_weight must be above 0, got {self.mask_weight}")

    @property
    def effective_batch(self) -> int:
        """Images per optimizer step of one process; with torchrun each of the others adds as many."""
        return self.batch_size * self.accumulation_steps
