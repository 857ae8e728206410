"""Parse and format quantities: `24h`, `32GiB`."""

import re
from decimal import Decimal

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])\s*")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")


def parse_duration_s(text: str) -> int:
    """Seconds in `90s`, `15m`, `24h`, `1d12h` or SLURM's `[days-]hours:minutes:seconds`.

    Raises:
        ValueError: no unit, an unknown unit, or not a positive whole number of seconds.
    """
    text = text.strip()
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        total = Decimal(days * 86400 + hours * 3600 + minutes * 60 + seconds)
    else:
        parts = _DURATION_PART.findall(text)
        if not parts or _DURATION_PART.sub("", text):
            raise ValueError(f"{text!r} is not a duration: write it like 90s, 15m, 24h or 1d12h")
        total = sum((Decimal(number) * _SECONDS[unit] for number, unit in parts), Decimal())
    if total != int(total) or total <= 0:
        raise ValueError(f"{text!r} is not a positive whole number of seconds")
    return int(total)


def format_duration(seconds: float) -> str:
    """`1d 2h`, `3h 5m`, `2m 10s`, `4s`: the two largest units, rounded down."""
    left = int(seconds)
    if left < 0:
        return f"-{format_duration(-seconds)}"
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _SECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def exact_duration(seconds: int) -> str:
    """The shortest text that `parse_duration_s` reads back as the same number of seconds."""
    unit = next(u for u in ("d", "h", "m", "s") if seconds % _SECONDS[u] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def parse_bytes(text: str) -> int:
    """Bytes in `32GiB`, `500 MB`, `1.5TiB`.

    Raises:
        ValueError: no unit, an unknown unit, or a negative number.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    if not match or match[2] not in _BYTES:
        raise ValueError(f"{text!r} is not an amount of memory: write it like 32GiB or 500MB")
    return int(Decimal(match[1]) * _BYTES[match[2]])


def format_bytes(count: float) -> str:
    """`3.2 GiB`, `17 KiB`, `12 B`: binary units, two significant digits or more."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if abs(count) >= _BYTES[unit]:
            value = count / _BYTES[unit]
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{int(count)} B"


def exact_bytes(count: int) -> str:
    """The shortest text that `parse_bytes` reads back as the same number of bytes."""
    unit = next((u for u in ("TiB", "GiB", "MiB", "KiB") if count and count % _BYTES[u] == 0), "B")
    return f"{count // _BYTES[unit]}{unit}"


def format_count(count: float) -> str:
    """`23.9 M`, `17.4 k`, `612`: three significant digits."""
    for limit, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(count) >= 0.9995 * limit:  # which three digits show as 1 of this unit
            return f"{count / limit:.3g}{suffix}"
    return f"{count:.3g}"


def counted(count: int, noun: str) -> str:
    """`1 protein`, `4,996 proteins`: a number before a noun whose plural ends in s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_share(count: int, total: int) -> str:
    """`27%`; `all but 1` where rounding would say 100% of what is not all, and `<1%` where it would say 0% of some."""
    text = f"{count / total:.0%}"
    if text == "100%" and count < total:
        return f"all but {total - count:,}"
    return "<1%" if text == "0%" and count else text


def decimal_comma_hint(text: str) -> str | None:
    """What to write for a number such as `1,5`; None for any other text."""
    number = text.strip()
    is_one = re.fullmatch(r"[-+]?[0-9]+,[0-9]+(?:[eE][-+]?[0-9]+)?", number)
    return f"write {number} with a point: {number.replace(',', '.')}" if is_one else None
