"""Models that take JPEG strings: the graph is cut behind decoding and preprocessing, which are read from it."""
