"""Run exported networks with ONNX Runtime, NumPy and OpenCV alone."""
