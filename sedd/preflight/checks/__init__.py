"""The checks, one a file: ../README.md says how to add one."""
