"""How many levels and entries file format, models and priors have room for: all three alike."""

MAX_LEVELS = 16  # grids of indices, and so quality levels
MAX_ENTRIES = 1 << 15  # of a codebook, so that an index fits int16
MAX_PLANES = 4  # of details
