"""Exit codes between the training process and the job entry."""

from sedd.rundir.exits import Exit


def test_codes_are_told_apart_from_shells_and_signals():
    assert Exit.COMPLETED == 0
    assert Exit.CRASHED == 1, "what Python itself exits with on an exception"
    assert all(2 < code < 126 for code in Exit if code not in (Exit.COMPLETED, Exit.CRASHED))
