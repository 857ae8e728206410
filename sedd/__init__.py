"""SEDD protein diffusion on old GPUs: one YAML spec in, a preemption-proof, monitored run out."""
