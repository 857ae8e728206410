"""A sweep is looked at once for each kind of run."""

from sedd.preflight.sweep_groups import sweep_groups
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request


def request(*points) -> Request:
    experiments = []
    for point in points:
        document = {"name": "x", "data": {"store": "/"}, "training": {"steps": 10}, "model": {}}
        for key, value in point.items():
            *sections, last = key.split(".")
            where = document
            for section in sections:
                where = where.setdefault(section, {})
            where[last] = value
        experiments.append(Experiment.model_validate(document))
    return Request(experiments=tuple(experiments), points=points, parallel=None)


def test_rates_seeds_and_noise_make_no_kind_of_their_own():
    points = [{"training.learning_rate": 1e-4}, {"training.learning_rate": 1e-3}, {"seed": 3}]
    points += [{"diffusion.noise.kind": "geometric"}]
    (kind,) = sweep_groups(request(*points))
    assert kind.point == ""


def test_sizes_and_resources_do_and_are_named_by_what_sets_them_apart():
    points = [
        {"model.hidden": 512, "seed": 0},
        {"model.hidden": 768, "model.heads": 12, "seed": 1},
        {"model.hidden": 512, "seed": 2},
        {"resources.walltime": "48h"},
    ]
    kinds = sweep_groups(request(*points))
    assert [kind.point for kind in kinds] == [
        "model.hidden=512", "model.hidden=768, model.heads=12", "resources.walltime=48h",
    ]  # fmt: skip
    assert kinds[1].experiment.model.hidden == 768
