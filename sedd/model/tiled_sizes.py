"""Which heads `tiled` attention supports, and the extra memory that heads of 128 need. Imports no torch."""

HEAD_DIMS = (32, 64, 128)
"""Sizes of a head that the kernels are written for."""
WIDEST_OF_FOUR_WARPS = 64
"""Size of a head beyond which blocks take eight warps and gradients of the scores are kept: fused/tiled_wide.cu."""
TURING = (7, 5)
"""Compute capability whose blocks have 64 KiB of shared memory, too little for eight warps; a V100's have 96."""
TILE = 64
"""Queries or keys of a tile, as in fused/tiles.cu."""
KEPT_BYTES = 1 << 28
"""Of the scores' gradients at most, unless one head's are more. With a quarter the pass took 5 % longer on an H200."""


def has_kernels(head_dim: int, capability: tuple[int, int] | None) -> bool:
    """Whether they are written for heads of this size on such a card; None: not on Turing."""
    return head_dim in HEAD_DIMS and not (capability == TURING and head_dim > WIDEST_OF_FOUR_WARPS)


def kept_score_bytes(tokens: int, max_length: int, heads: int, head_dim: int) -> int:
    """Bytes of the scores' gradients that are kept during the backward pass of a layer; each layer's go as it ends."""
    if head_dim <= WIDEST_OF_FOUR_WARPS:
        return 0
    return heads_at_once(tokens, max_length, heads) * _head_bytes(tokens, max_length)


def heads_at_once(tokens: int, max_length: int, heads: int) -> int:
    """Heads whose scores' gradients are kept at once; each launch takes as many, or nearly."""
    launches = -(-heads // max(1, KEPT_BYTES // _head_bytes(tokens, max_length)))
    return -(-heads // launches)


def count_tiles(tokens: int, max_length: int) -> int:
    """Tiles of the longest sequence."""
    return -(-min(max_length, tokens) // TILE)


def _head_bytes(tokens: int, max_length: int) -> int:
    return 2 * tokens * count_tiles(tokens, max_length) * TILE
