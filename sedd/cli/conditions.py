"""`--condition FIELD=VALUE`: the labels under which a network is asked."""

from collections.abc import Sequence

from sedd.errors import UsageError


def parse_condition(texts: Sequence[str] | None) -> dict[str, str | int | float]:
    """Labels by field. Raises: UsageError for what is no FIELD=VALUE, or a field that is named twice."""
    condition: dict[str, str | int | float] = {}
    for text in texts or ():
        field, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not field or not value:
            raise UsageError(f"--condition is '{text[:40]}'", hint="write FIELD=VALUE, as ec=3.2.1")
        if field in condition:
            raise UsageError(f"--condition names '{field}' twice", hint="one value a field")
        condition[field] = value
    return condition
