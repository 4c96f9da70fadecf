"""`maleo model`: from an ONNX file to a Model that can be planned, cut and pulled by digest."""
