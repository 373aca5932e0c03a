"""Numbers as text: short decimals, durations, rates, intervals."""

import numpy as np

from pneumo.evaluation.metrics import Interval


def clock(duration: float) -> str:
    """4 s, 2:09 or 3:37:20"""
    whole = round(duration)
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}" if minutes else f"{seconds} s"


def short(value: float, digits: int = 3) -> str:
    """.957, as in the literature."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def known(value: float) -> str:
    """.957, or - where it is not known."""
    return short(value) if np.isfinite(value) else "-"


def between(interval: Interval) -> str:
    """.916 - .987, or nothing where neither end is known."""
    return f"{known(interval[0])} - {known(interval[1])}" if np.isfinite(interval).any() else ""


def rate(value: float) -> str:
    """1.2e-3"""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def count(number: int) -> str:
    """307,793 -> 0.31 M"""
    return f"{number / 1e6:.2g} M" if number >= 1e5 else f"{number:,}"


def signed(value: float) -> str:
    return ("+" if value >= 0 else "-") + short(abs(value))
