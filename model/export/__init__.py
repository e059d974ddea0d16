"""From a TensorFlow model to an ONNX graph that answers the same."""
