"""Numbers as text, as tables and messages show them: decimals, durations, moments, counts and intervals."""

import math
from collections.abc import Sequence
from datetime import datetime

Interval = tuple[float, float]


def duration(seconds: float) -> str:
    """4 s, 2:09 (minutes and seconds) or 3:37:20."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def when(moment: datetime) -> str:
    """26 Nov 08:38 of the local time; without the hour but with the year of another year."""
    local = moment.astimezone()
    is_of_this_year = local.year == datetime.now().year
    return f"{local:%d %b %H:%M}" if is_of_this_year else f"{local:%d %b %Y}"


def decimal(value: float, digits: int = 3) -> str:
    """.957: without the zero before the point, as medical journals print it; 1.250 from 1 on."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def probability(value: float, digits: int = 3) -> str:
    """.870; with as many digits as tell it from 0 and 1 where these do not: 3e-4 or .9997."""
    distance = min(value, 1 - value)
    if distance <= 0 or distance >= 0.5 * 10**-digits:
        return decimal(value, digits)
    return scientific(value) if value < 0.5 else decimal(value, math.ceil(-math.log10(distance)))


def decimal_or_dash(value: float) -> str:
    """.957, or - of NaN and infinity."""
    return decimal(value) if math.isfinite(value) else "-"


def signed_decimal(value: float) -> str:
    """+.041 or -.012."""
    return ("+" if value >= 0 else "-") + decimal(abs(value))


def interval(ends: Interval) -> str:
    """.916 - .987, with - for an end that is NaN; empty where both are."""
    return " - ".join(map(decimal_or_dash, ends)) if any(map(math.isfinite, ends)) else ""


def with_interval(value: float, ends: Interval) -> str:
    """.561 (.475 - .650); the value alone where both ends are NaN; - where the value is."""
    shown = interval(ends)
    return f"{decimal(value)} ({shown})" if math.isfinite(value) and shown else decimal_or_dash(value)


def scientific(value: float) -> str:
    """1.2e-3, as a learning rate is written."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def compact(number: int) -> str:
    """0.31 M of 307,793; all digits below 100,000."""
    return f"{number / 1e6:.2g} M" if number >= 1e5 else f"{number:,}"


def counted(number: int, noun: str) -> str:
    """1 epoch or 1,200 epochs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def enumeration(texts: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
