"""What is wrong with a build's tables, or with the store that it begins with, as far as no whole file must be read."""

from sedd.conditions.label_table import require_label_table
from sedd.data.append import require_appendable
from sedd.data.clusters import require_cluster_table
from sedd.data.fasta import require_text
from sedd.data.manifest import read_manifest
from sedd.data.reuse import recorded_options
from sedd.spec.build import BuildOptions


def require_fit_options(options: BuildOptions) -> None:
    """Read the first line of each table and the manifest of the store that is added to.

    Raises:
        DataError: one of them is missing or no such thing, or they do not fit each other.
    """
    for table in filter(None, (options.clusters, options.labels)):
        require_text(table)
    before = None
    if options.onto is not None:
        before = read_manifest(options.onto)
        # Names in place of checksums, each of which takes a whole table: it matters only whether there are tables.
        require_appendable(options.onto, before, recorded_options(options, checksum=str))
    if options.clusters is not None:
        require_cluster_table(options.clusters)
    if options.labels is not None:
        require_label_table(options.labels, options.label_numbers, onto=before.labels if before else None)
