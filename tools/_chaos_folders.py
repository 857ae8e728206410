"""Faults of the file system: full, and run folders that are moved away or deleted."""

import contextlib
import os
import shutil

from _chaos_scene import Harm, Scene, pick
from _chaos_site import jobs, workers

ENDS_WITHIN_S = 75.0
"""For the training of a deleted folder: the minute that is promised, and the time to see it."""


def fill_disk(scene: Scene) -> Harm | None:
    """The disk of all runs is full for a while, to the last byte."""
    ballast = scene.site.ballast
    if ballast.exists():
        return None
    with ballast.open("wb", buffering=0) as file:
        block = bytes(2**20)
        while block:
            with contextlib.suppress(OSError):
                while file.write(block) == len(block):
                    pass
            block = block[: len(block) // 16]
    seconds = scene.rng.uniform(2, 10)
    scene.later(seconds, ballast.unlink, "disk")
    return Harm(list(scene.runs), f"for {seconds:.0f} s")


def move_folder(scene: Scene) -> Harm | None:
    """A run folder is moved away while its job runs, and back again after up to half a minute."""
    picked = pick(scene)
    if picked is None:
        return None
    folder = picked[0].run.path
    aside = scene.site.disk / f"aside-{folder.name}"
    os.rename(folder, aside)
    seconds = scene.rng.uniform(1, 25)

    def bring_back() -> None:
        if folder.exists():
            made = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
            scene.violations.append(f"{folder} was made anew while it was away: {made}")
            shutil.rmtree(folder)
        os.rename(aside, folder)

    scene.later(seconds, bring_back, str(folder))
    return Harm([picked[0]], f"for {seconds:.0f} s")


def delete_folder(scene: Scene) -> Harm | None:
    """A run folder is deleted while its job runs: that must end within a minute, and make no folder."""
    picked = pick(scene)
    if picked is None:
        return None
    watched, job = picked
    folder = watched.run.path
    watched.is_deleted, watched.ended = True, 0.0
    gone = scene.site.disk / f"deleted-{folder.name}"
    os.rename(folder, gone)  # first: rmtree alone meets files that are being written
    shutil.rmtree(gone, ignore_errors=True)

    def look() -> None:
        if left := [w.pid for w in workers(scene.site.runs) if w.run == folder]:
            scene.violations.append(f"processes {left} train for {folder}, which was deleted")
        if folder.exists():
            made = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
            scene.violations.append(f"{folder} was made anew: {made}")
        now = jobs().get(job.job_id)
        if now is not None and now.comment == job.comment and not now.state.is_final:
            scene.violations.append(f"job {job.job_id} of the deleted {folder} is {now.state}")

    scene.later(ENDS_WITHIN_S, look, f"deleted {folder}")
    return Harm([watched], "")
