"""Split the input files into sources that can be read independently, and deal their blocks to part builders."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sedd.data.fasta import Halves, Span, SpanReader, is_gzip, read_halves, spans
from sedd.data.legacy_pt import is_older_file, read_older_blocks
from sedd.data.parts import Part, PartBuilder, PartOptions
from sedd.data.progress import Progress

GZIP_LANES = (
    2  # inflating is as quick as encoding by two processes; always two, so that the order does not vary
)


@dataclass(frozen=True, slots=True)
class Source:
    """A span of a file, and a folder for each part that is made of it: block i goes to part i mod `len(folders)`."""

    span: Span
    folders: tuple[Path, ...]

    @property
    def name(self) -> str:
        return str(self.span.path)


@dataclass(frozen=True, slots=True)
class Built:
    """The parts of one source, and the fingerprint of its bytes."""

    parts: list[Part]
    fingerprint: str


def plan_sources(path: Path, scratch: Path, number: int) -> list[Source]:
    """The sources of one input file; the parts' folders are named after its `number`."""
    lanes = GZIP_LANES if is_gzip(path) else 1
    return [
        Source(span, tuple(scratch / f"{number}-{i}-{lane}" for lane in range(lanes)))
        for i, span in enumerate(spans(path))
    ]


def source_blocks(source: Source, reader: SpanReader) -> Iterator[Halves]:
    """Blocks of whole FASTA records, whatever the file's format, each in two halves."""
    path = source.span.path
    if is_older_file(path):
        return ((block, memoryview(b"")) for block in read_older_blocks(path))
    return read_halves(reader, path, gzipped=is_gzip(path))


def build_source(
    source: Source, options: PartOptions, progress: Progress, *, at_most: int | None = None
) -> Built:
    """Build all parts of a source in this process; of `at_most` sequences, if given."""
    builders = [PartBuilder(folder, options) for folder in source.folders]
    left = at_most
    with SpanReader(source.span, progress) as reader:
        for number, halves in enumerate(source_blocks(source, reader)):
            if left == 0:
                break
            builder = builders[number % len(builders)]
            kept = builder.add(b"".join(halves), source=source.name, at_most=left)
            left = None if left is None else left - kept
        fingerprint = reader.fingerprint()
    return Built([builder.close() for builder in builders], fingerprint)
