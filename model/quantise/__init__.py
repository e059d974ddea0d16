"""From a float ONNX graph and photos to INT8 graphs, one for TensorRT and one for ONNX Runtime on a CPU."""
