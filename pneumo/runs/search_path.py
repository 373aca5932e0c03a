"""Where configuration files are looked for: folders of the user first, then pneumo's own, then those of
plugins.

A plugin is an installed package with an entry point in the group `pneumo.components`: its classes may be
named as a `_target_`, and its folder `conf/`, if it has one, adds choices to the groups."""

import argparse
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

PACKAGE = Path(__file__).parents[1]
OWN = (
    PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
)  # installed, or in a checkout
PLUGINS = "pneumo.components"  # the group of entry points
FOLDER = "conf"  # of the working directory, and of a plugin


def folders() -> list[Path]:
    """Existing folders of configuration files; where two have a file of the same name, the earlier one
    wins."""
    own = [*_of_the_user(), OWN, *_of_plugins()]
    return list(dict.fromkeys(folder.resolve() for folder in own if folder.is_dir()))


def plugins() -> list[str]:
    """Names of the packages whose classes a configuration may name."""
    return sorted({entry.value for entry in entry_points(group=PLUGINS)})


class ConfigFolders(SearchPathPlugin):
    """Gives Hydra the folders, in programs that are configured from pneumo's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        main = next((one for one in search_path.get_path() if one.provider == "main"), None)
        if main is None or Path(main.path.removeprefix("file://")).resolve() != OWN.resolve():
            return
        known = folders()
        at = known.index(OWN.resolve())
        for folder in reversed(known[:at]):
            search_path.prepend("user", f"file://{folder}")
        for folder in known[at + 1 :]:
            search_path.append("plugin", f"file://{folder}")


def register() -> None:
    """Call it before Hydra composes; more than once does no harm."""
    Plugins.instance().register(ConfigFolders)


def _of_the_user() -> list[Path]:
    """`--config-dir` of the command line, and `conf/` in the working directory."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    given = parser.parse_known_args(sys.argv[1:])[0].config_dir
    return [*([given] if given else []), Path(FOLDER)]


def _of_plugins() -> list[Path]:
    specs = [find_spec(name) for name in plugins()]
    places = [place for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return [Path(place, FOLDER) for place in places]
