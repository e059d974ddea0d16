"""The model build: a TensorFlow model in, a measured and verified INT8 artifact out."""
