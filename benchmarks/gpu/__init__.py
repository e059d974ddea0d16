"""Evidence from a real GPU: this repository's graphs in TensorRT 8.6.1. Not part of the product; see README.md."""
