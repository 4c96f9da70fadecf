"""Slot runtime: the mission's entry, the partition server and the loading of model partitions."""

import os

# Read once, when onnxruntime is imported: slots send no telemetry to its vendor, nor log failed attempts.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
