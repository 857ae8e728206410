"""SEDD protein diffusion on old GPUs: one YAML spec in, a preemption-proof, monitored run out."""

__version__ = "0.1.0"  # the one place; pyproject.toml reads it
