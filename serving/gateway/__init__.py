"""The HTTP API on port 8888: TensorFlow Serving's REST API v1 in front of Triton."""
