"""One run, from its configuration to MLflow and back. Called as a function, `pneumo.runs()`, the package
gives the table of the runs."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd


class CallablePackage(ModuleType):
    """A package that is a function too, since users call `pneumo.runs()` as they call `pneumo.load`."""

    def __call__(
        self, *filters: str, sort: Literal["when", "val", "test", "name"] = "when", trials: bool = True
    ) -> "pd.DataFrame":
        """The training runs in MLflow, a row each, with the columns and the filters of `pneumo runs`.
        `trials`: with those of studies. InputError: MLflow cannot be reached, or no run has a filter's
        key."""
        import pandas as pd

        from pneumo.display.address import forget_folder
        from pneumo.runs import tracking
        from pneumo.runs.listing import COLUMNS, listing
        from pneumo.runs.run_name import check_runs_are_here

        forget_folder()
        check_runs_are_here("there are no runs to list")
        tracking.connect()
        return pd.DataFrame(listing(filters, sort, trials).rows, columns=list(COLUMNS))


sys.modules[__name__].__class__ = CallablePackage
