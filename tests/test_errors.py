"""What the command line makes of an error."""

import inspect

import pytest

from sedd import errors

KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SeddError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_exit_code_2_is_for_what_was_asked_and_1_for_what_failed(kind: type[errors.SeddError]):
    error = kind("what", hint="how")
    assert (error.message, error.hint) == ("what", "how")
    of_input = (errors.UsageError, errors.DataError, errors.CheckpointError)
    is_input = issubclass(kind, of_input) and kind is not errors.CheckpointUnavailableError
    assert error.exit_code == (2 if is_input else 1)
