"""Lengths of time, as a log writes them."""


def span(seconds: float) -> str:
    """Write seconds in the two largest units that matter: ``12.3 s``, ``1 min 30 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
