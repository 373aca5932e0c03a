"""The code and the configuration of this process as one folder, which travels to other machines."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pneumo.runs import origin, search_path

CONF = search_path.FOLDER
PYTHON_ALONE = shutil.ignore_patterns("__pycache__")


def pack(folder: Path) -> None:
    """Copies the package into an empty folder, with its configuration, what git says of it, the modules that
    PNEUMO_TRUST names unless they are installed, and in `conf/` the user's configuration files."""
    package = folder / search_path.PACKAGE.name
    shutil.copytree(search_path.PACKAGE, package, ignore=PYTHON_ALONE)
    shutil.copytree(search_path.OWN, package / CONF, dirs_exist_ok=True)
    origin.save(package)
    for place in trusted_places():
        if place.is_dir():
            shutil.copytree(place, folder / place.name, ignore=PYTHON_ALONE, dirs_exist_ok=True)
        else:
            shutil.copy(place, folder)
    for users in reversed(search_path.user_folders()):  # of files with the same name, the first one's is used
        if users.is_dir() and users.resolve() != search_path.OWN.resolve():
            shutil.copytree(users, folder / CONF, dirs_exist_ok=True)


def trusted_places() -> Iterator[Path]:
    """The files and packages of the modules in PNEUMO_TRUST that lie in no folder of installed packages."""
    names = (name.strip().split(".")[0] for name in os.environ.get("PNEUMO_TRUST", "").split(","))
    for name in dict.fromkeys(filter(str.isidentifier, names)):
        spec = find_spec(name)
        if spec is None or spec.origin is None or "site-packages" in spec.origin:
            continue
        path = Path(spec.origin)
        yield path.parent if path.name == "__init__.py" else path
