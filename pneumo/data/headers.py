"""Headers of DICOM files; one is read again only when the bytes of its file may have changed.

Headers are kept in <store_dir>/headers.json by the hash of the bytes of their file (see `contents`), as
pixels are. Those of files that cannot be used are not kept: a decoder may have been added since."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path

from pneumo.data.atomic import atomic_path, remove_leftovers
from pneumo.data.contents import contents
from pneumo.data.decode.header import Header

FORMAT = 2  # another whenever the same bytes come to be read as another header
NAME = "headers.json"
MOST_REMEMBERED = 2**17  # files: about 16 MB


def headers_of(root: Path, paths: Sequence[str], store_dir: Path) -> list[Header]:
    """Returns the headers of files, in order: kept ones, unless the file may have changed. It raises nothing:
    what is wrong with a file is in `problem`."""
    files = [root / path for path in paths]
    hashes = contents(files, store_dir).hashes.tolist()
    known = _remembered(store_dir)
    found = {path: known[content] for path, content in zip(paths, hashes, strict=True) if content in known}
    if unknown := [path for path in paths if path not in found]:
        from pneumo.data.decode.dicom import headers  # takes half a second to import

        found |= dict(zip(unknown, headers(root, unknown), strict=True))
        after = contents(files, store_dir).hashes.tolist()  # none was written to while it was read
        new = {
            content: found[path]
            for path, content, again in zip(paths, hashes, after, strict=True)
            if content == again and content not in known and not found[path].problem
        }
        _remember(store_dir, new)
    return [found[path] for path in paths]


def _made_by() -> list[object]:
    """Returns what the headers of the same bytes depend on."""
    return [FORMAT, version("pydicom")]


def _remembered(store_dir: Path) -> dict[int, Header]:
    """Returns the kept headers by the hash of their file; none if the file is missing, damaged or of another
    version."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads((store_dir / NAME).read_text())
        if kept["made_by"] == _made_by():
            return {int(content): Header(*texts) for content, texts in kept["headers"].items()}
    return {}


def _remember(store_dir: Path, new: Mapping[int, Header]) -> None:
    """Adds headers to the file. If it cannot be written, the headers are read again next time."""
    if not new:
        return
    from filelock import FileLock  # not installed where a model is served

    with suppress(OSError):
        store_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(store_dir / f"{NAME}.lock"):
            remove_leftovers(store_dir / NAME)
            kept = list({**new, **_remembered(store_dir)}.items())[:MOST_REMEMBERED]
            headers = {str(content): astuple(header) for content, header in kept}
            with atomic_path(store_dir / NAME) as beside:
                beside.write_text(json.dumps({"made_by": _made_by(), "headers": headers}))
