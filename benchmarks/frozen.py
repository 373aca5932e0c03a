"""python benchmarks/frozen.py: 20 epochs of a frozen backbone, with and without cached features.

The same run of train.py is made twice, each in a folder of its own with the store already built. The result
is the seconds of the whole process, less those of a run that trains almost nothing, and the validation
AUROC."""

import tempfile
from pathlib import Path

from rows import Row, end
from runs import trained

from pneumo.display.format import decimal

RUN = ["model=resnet18", "model.freeze=backbone", "augment=none", "fit.pictures=false"]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(2):  # the first builds the store
            short_run = ("fit.epochs=1", "fit.few_images=2", "fit.cache_features=null")
            nothing, _ = trained(Path(temporary, str(number)), *RUN, *short_run)
        sides = {}
        for cache in ("null", "auto"):
            took, metrics = trained(
                Path(temporary, cache), *RUN, "fit.epochs=20", f"fit.cache_features={cache}"
            )
            sides[cache] = took - nothing, metrics["best/val_auroc"]
    (images, before), (features, after) = sides["null"], sides["auto"]
    what = "20 epochs of a frozen resnet18 at 128 px"
    end(
        [
            Row(
                f"{what}, s",
                f"{features:.1f} from features",
                f"{images:.1f} from images",
                images / features,
                digits=1,
                at_least=10,
            ),
            Row(
                "its val AUROC",
                decimal(after, 4),
                decimal(before, 4),
                abs(before - after),
                " apart",
                digits=4,
                at_most=0.005,
            ),
        ],
        f"start of the process ({nothing:.1f} s) taken off",
    )


if __name__ == "__main__":
    main()
