"""Write values of a spec on one line, as YAML has them; without PyYAML, since `sedd status` does it, too."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][\w./+-]*(?: [\w./+-]+)*|(?:[1-9][0-9]*[A-Za-z]+)+")
"""Words, and quantities such as 48h, that need no quotes, unless YAML reads them as something else."""
_NO_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def yaml_text(value: Any) -> str:
    """`true`, `null`, `1.0e-05`, `[16, 32]`, `{from_step: 10, steps: 5}`: what YAML reads back as the value."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return _float_text(value)
        case str():
            return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
        case Mapping():
            return f"{{{', '.join(f'{yaml_text(key)}: {yaml_text(each)}' for key, each in value.items())}}}"
        case Sequence():
            return f"[{', '.join(map(yaml_text, value))}]"
    return str(value)


def assignments(values: Mapping[str, Any]) -> str:
    """`training.steps=1000, seed=1`: a point of a sweep in words."""
    return ", ".join(f"{key}={yaml_text(value)}" for key, value in values.items())


def _float_text(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 reads 1e-05 as a word


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None and text.lower() not in _NO_WORDS
