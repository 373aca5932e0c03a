"""How often Python looks for garbage. What a command imports makes half a million objects that stay; by
default Python looks through them again and again, which takes a quarter of the time."""

import gc

AS_BY_DEFAULT = gc.get_threshold()
RARELY = (50_000, *AS_BY_DEFAULT[1:])


def collect_rarely() -> None:
    """While a command is imported."""
    gc.set_threshold(*RARELY)


def collect_as_by_default() -> None:
    """After `collect_rarely`, before the command does its work, whose garbage may hold images. What has been
    imported is not looked through any more."""
    if gc.get_threshold() == RARELY:
        gc.freeze()
        gc.set_threshold(*AS_BY_DEFAULT)
