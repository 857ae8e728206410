"""The name under which runs of format 1 know the pickled class (see `protocol.py`). Their own code is what runs."""

from sedd.launch import pickled_job


class Job(pickled_job.Job):
    """As `pickled_job.Job`, pickled under this module's name."""
