"""Compare an existing store with the input of a build: is it the same, and may it be replaced?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xxhash

from sedd.data.fasta import SpanReader, spans
from sedd.data.files import file_checksum
from sedd.data.manifest import MANIFEST, InputFile, Manifest, read_manifest
from sedd.data.progress import Progress
from sedd.errors import MissingDataError
from sedd.spec.build import BuildOptions


def input_file(path: Path, fingerprints: list[str]) -> InputFile:
    """An input as the manifest keeps it, from the fingerprints of its spans."""
    fingerprint = str(xxhash.xxh3_128_hexdigest("\n".join(fingerprints).encode()))
    return InputFile(name=path.name, size_bytes=path.stat().st_size, fingerprint=fingerprint)


def recorded_options(
    options: BuildOptions, *, checksum: Callable[[Path], Any] = file_checksum
) -> dict[str, Any]:
    """The options as the manifest keeps them: content in place of paths."""
    clusters = None if options.clusters is None else checksum(options.clusters)
    onto = None if options.onto is None else read_manifest(options.onto).content_hash
    recorded = {**options.model_dump(exclude={"labels", "label_numbers"}), "clusters": clusters, "onto": onto}
    if options.labels is not None:  # else as before there were labels
        recorded |= {"labels": checksum(options.labels), "label_numbers": list(options.label_numbers)}
    return recorded


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
    there = _BUILT.format(output)
    hint = "--force replaces it; or choose another name after -o"
    manifest = read_manifest(output)
    if differs := _difference(manifest, inputs, before, options):
        raise MissingDataError(f"{there} {differs}", hint=hint)
    inputs_there = [(file.size_bytes, file.fingerprint) for file in manifest.inputs[len(before) :]]
    if inputs_there != [_fingerprint(path, progress) for path in inputs]:
        raise MissingDataError(f"{there} from other input", hint=hint)
    return manifest


_BUILT = "cannot write {}: it already exists, built"


def find_obstacle(output: Path, inputs: list[Path], options: BuildOptions) -> str | None:
    """Why what lies at `output` is not what would be built, as far as that is seen without reading input and tables.

    Raises:
        DataError: a store's manifest cannot be read.
    """
    if not output.exists():
        return None
    try:
        require_store(output)
    except MissingDataError as e:
        return e.message
    manifest, before = read_manifest(output), read_manifest(options.onto).inputs if options.onto else ()
    recorded = recorded_options(options, checksum=lambda path: _UNREAD)
    known = {k: (manifest.options.get(k) or v) if v is _UNREAD else v for k, v in recorded.items()}
    differs = _difference(manifest, inputs, before, known)
    return f"{_BUILT.format(output)} {differs}" if differs else None


_UNREAD = object()


def _difference(
    manifest: Manifest, inputs: list[Path], before: Sequence[InputFile], options: dict[str, Any]
) -> str | None:
    """In what a store's options or the sizes of its inputs are others."""
    if manifest.options != options:
        keys = {**options, **manifest.options}  # labels are an option only where there are some
        changed = ", ".join(key for key in keys if manifest.options.get(key) != options.get(key))
        return f"with other options ({changed})"
    sizes = [file.size_bytes for file in manifest.inputs[len(before) :]]
    # A different size spares reading everything.
    return None if sizes == [path.stat().st_size for path in inputs] else "from other input"


def _fingerprint(path: Path, progress: Progress) -> tuple[int, str]:
    fingerprints = []
    for span in spans(path):
        with SpanReader(span, progress) as reader:
            fingerprints.append(reader.fingerprint())
    file = input_file(path, fingerprints)
    return file.size_bytes, file.fingerprint
