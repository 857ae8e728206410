"""The transition graphs by name."""

from sedd.diffusion.absorbing import Absorbing
from sedd.diffusion.process import Graph
from sedd.diffusion.uniform import Uniform

__all__ = ["GRAPHS", "Absorbing", "Graph", "Uniform"]

GRAPHS: dict[str, type[Graph]] = {"absorbing": Absorbing, "uniform": Uniform}
