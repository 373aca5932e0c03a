"""The folders of configuration files: the user's first, then pneumo's own, then those of plugins.

A plugin is an installed package with an entry point in the group `pneumo.components`. Its classes can be
named as a `_target_`, and the files of its folder `conf/`, if it exists, add choices to the config groups."""

import argparse
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

PACKAGE = Path(__file__).parents[1]
# in an installed package, or in a checkout
OWN = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
PLUGINS = "pneumo.components"  # the group of entry points
FOLDER = "conf"  # of the working directory, and of a plugin


def folders() -> list[Path]:
    """Existing folders; of files with the same name, that of the earlier folder is used."""
    candidates = [*user_folders(), OWN, *_plugin_folders()]
    return list(dict.fromkeys(folder.resolve() for folder in candidates if folder.is_dir()))


@cache  # every installed package is looked at
def plugins() -> tuple[str, ...]:
    """Names of the installed plugin packages."""
    return tuple(sorted({entry.value for entry in entry_points(group=PLUGINS)}))


class ConfigFolders(SearchPathPlugin):
    """Adds the folders to Hydra's search path, in programs whose main configuration is pneumo's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        main = next((one for one in search_path.get_path() if one.provider == "main"), None)
        if main is None or Path(main.path.removeprefix("file://")).resolve() != OWN.resolve():
            return
        ordered = folders()
        at = ordered.index(OWN.resolve())
        for folder in reversed(ordered[:at]):
            search_path.prepend("user", f"file://{folder}")
        for folder in ordered[at + 1 :]:
            search_path.append("plugin", f"file://{folder}")


def register() -> None:
    """Registers the plugin with Hydra. It has to be called before Hydra composes, and may be called again."""
    Plugins.instance().register(ConfigFolders)


def config_dir_parser() -> argparse.ArgumentParser:
    """Finds `--config-dir` among the words of a command, and leaves the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    return parser


def user_folders() -> list[Path]:
    """The folder of `--config-dir` on the command line, and `conf/` in the working directory."""
    given = config_dir_parser().parse_known_args(sys.argv[1:])[0].config_dir
    return [*([given] if given else []), Path(FOLDER)]


def _plugin_folders() -> list[Path]:
    specs = [find_spec(name) for name in plugins()]
    places = [place for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return [Path(place, FOLDER) for place in places]
