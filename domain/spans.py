"""Lengths of time, as a log writes them."""


def span(seconds: float) -> str:
    """Write seconds in the unit that a person would choose."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
