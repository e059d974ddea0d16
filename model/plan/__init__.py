"""TensorRT plans: built with the container's own TensorRT, inspected, and the graphs' fusion checked without a GPU."""
