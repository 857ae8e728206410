"""Compare an existing store with the input of a build: is it the same, and may it be replaced?"""

from pathlib import Path
from typing import Any

import xxhash

from sedd.data.fasta import SpanReader, spans
from sedd.data.manifest import MANIFEST, InputFile, Manifest, read_manifest
from sedd.data.progress import Progress
from sedd.errors import MissingDataError


def input_file(path: Path, fingerprints: list[str]) -> InputFile:
    """An input as the manifest keeps it, from the fingerprints of its spans."""
    fingerprint = str(xxhash.xxh3_128_hexdigest("\n".join(fingerprints).encode()))
    return InputFile(name=path.name, size_bytes=path.stat().st_size, fingerprint=fingerprint)


def require_store(output: Path) -> None:
    """Refuse to replace what is no token store. Raises: MissingDataError."""
    if not (output / MANIFEST).is_file():
        raise MissingDataError(
            f"cannot write {output}: it already exists and is not a token store",
            hint="choose another name after -o",
        )


def require_same(
    output: Path,
    inputs: list[Path],
    before: tuple[InputFile, ...],
    options: dict[str, Any],
    progress: Progress,
) -> Manifest:
    """The manifest of `output`, if it was made of `before` and then these inputs, with these options.

    Raises:
        MissingDataError: it was made of something else.
    """
    there = f"cannot write {output}: it already exists, built"
    hint = "--force replaces it; or choose another name after -o"
    manifest = read_manifest(output)
    if manifest.options != options:
        changed = ", ".join(key for key in options if manifest.options.get(key) != options[key])
        raise MissingDataError(f"{there} with other options ({changed})", hint=hint)
    inputs_there = [(file.size_bytes, file.fingerprint) for file in manifest.inputs[len(before) :]]
    sizes = [path.stat().st_size for path in inputs]
    # A different size spares reading everything.
    is_as_large = [size for size, _ in inputs_there] == sizes
    if not is_as_large or inputs_there != [_fingerprint(path, progress) for path in inputs]:
        raise MissingDataError(f"{there} from other input", hint=hint)
    return manifest


def _fingerprint(path: Path, progress: Progress) -> tuple[int, str]:
    fingerprints = []
    for span in spans(path):
        with SpanReader(span, progress) as reader:
            fingerprints.append(reader.fingerprint())
    file = input_file(path, fingerprints)
    return file.size_bytes, file.fingerprint
