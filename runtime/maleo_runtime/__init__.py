"""What runs in a slot: the entry, the partition server and the loading of model spans."""

import os

# Read once, when onnxruntime is imported: a slot sends nothing to ONNX Runtime's makers, nor warns that it cannot.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
