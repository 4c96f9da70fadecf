"""Egress check before a part serves: no tensor that leaves it may be the model's input in another form.

Planning relies on what the Model declares about its cuts. This check inspects the graph itself, so that a Model that
was written by hand or by an older importer does not disclose an input that its mission withholds.
"""

import onnx

from maleo_runtime.raw_tensors import find_raw
from maleo_runtime.stage import LoadFailed
from maleo_runtime.values import find_constants, infer_values, inline
from maleo_wire.address import redact_uri
from maleo_wire.messages import StageSpec

_REMEDY = "import the Model again (maleo model import), so that its cuts declare what they transfer"


def check_withheld(stage: StageSpec, model: onnx.ModelProto) -> None:
    """Raise LoadFailed unless every output of `stage` combines several input elements of `model`, the whole model."""
    name = redact_uri(stage.artifact.uri)
    model = inline(model)
    try:
        raw = find_raw(model, infer_values(model), find_constants(model.graph))
    except Exception as error:  # onnx raises a dozen classes; a graph that cannot be analysed is not known to be safe
        raise LoadFailed(
            f"{name}: spec.egress.input cannot be enforced, because the graph cannot be analysed: {error}: {_REMEDY}"[
                :500
            ]
        ) from error
    sent = stage.taken_from or tuple(spec.name for spec in stage.outputs)
    for tensor in sent:
        if tensor in raw:
            raise LoadFailed(
                f"{name}: tensor {tensor[:100]!r} is the input in another form, and spec.egress.input forbids the next "
                f"node to receive the input: {_REMEDY}"
            )
