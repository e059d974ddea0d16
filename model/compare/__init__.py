"""Rows of one model next to each other: native TensorFlow, FP32, FP16 and INT8, in speed, memory and answers."""
