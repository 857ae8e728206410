"""How a guide is named, and whether it can be found here. Torch-free; `guides.py` loads it."""

import importlib.metadata
import importlib.util

GROUP = "sedd.guides"
"""Of entry points."""


def parse_guide(text: str) -> tuple[str, str]:
    """`NAME=TARGET` or `module:make=TARGET`: the name, and the target, `""` where none is given."""
    name, _, target = text.partition("=")
    return name, target


def missing_guide(text: str) -> str | None:
    """Why the guide that `text` names is not found by this Python, before any of its code is run; None if it is."""
    name, _ = parse_guide(text)
    module, colon, _ = name.partition(":")
    if name in {point.name for point in importlib.metadata.entry_points(group=GROUP)}:
        return None
    if not colon:
        return f"no installed package offers a guide '{name}'"
    top = module.partition(".")[0]  # to look for what is within a package would import it
    if top and importlib.util.find_spec(top):
        return None
    return f"no module {top or repr(module)} for the guide '{name}'"
