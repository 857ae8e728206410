"""Every field of a spec is read by some code: a field that nothing reads promises what no run does."""

import shutil
from pathlib import Path

import sedd
from sedd.spec.tasks import TASKS
from tests.spec.fields_read import fields_read
from tests.spec.test_experiment import all_models

DEAD = '    scale: float = 1.0\n    """A field that nothing reads, though others of its name are."""\n'


def test_every_field_is_read_and_one_that_is_not_is_noticed(tmp_path: Path):
    package = Path(shutil.copytree(Path(sedd.__path__[0]), tmp_path / "sedd"))
    spec = package / "spec" / "model.py"
    text = spec.read_text()
    spec.write_text(text.replace("    hidden: int", f"{DEAD}    hidden: int", 1))
    read = fields_read(package)
    assert "sedd.spec.model.ModelSpec.hidden" in read
    assert "sedd.spec.model.ModelSpec.scale" not in read
    unread = {
        f"{model.__name__}.{name}"
        for task in TASKS.values()
        for model in all_models(task)
        if "kind" not in model.model_fields  # its fields are the arguments of a class: test_choices.py
        for name in model.model_fields.keys() - {"task"}  # chooses the model itself
        if not {f"{m.__module__}.{m.__name__}.{name}" for m in model.__mro__} & read
    }
    assert unread == set()
