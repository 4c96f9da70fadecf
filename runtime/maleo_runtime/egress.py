"""Shows, before a part serves, that what leaves it is not the model's input in another form.

Planning goes by what the Model says of its cuts. This goes by the graph, so that a Model that was written by hand, or
by an older importer, lets no input out that its mission keeps in.
"""

import onnx

from maleo_runtime.raw import find_raw
from maleo_runtime.stage import LoadFailed
from maleo_runtime.values import find_constants, infer, inline
from maleo_wire.address import show
from maleo_wire.messages import Stage

_REMEDY = "import the Model again (maleo model import), so that its cuts say what crosses them"


def check_withheld(stage: Stage, model: onnx.ModelProto) -> None:
    """Raise LoadFailed unless every output of `stage` combines several elements of the input of `model`, the whole."""
    name = show(stage.artifact.uri)
    model = inline(model)
    try:
        raw = find_raw(model, infer(model), find_constants(model.graph))
    except Exception as error:  # onnx raises a dozen classes: what cannot be followed is not shown to be safe
        raise LoadFailed(
            f"{name}: spec.egress.input needs to know what crosses a cut: {error}: {_REMEDY}"[:500]
        ) from error
    crossing = stage.taken_from or tuple(spec.name for spec in stage.outputs)
    for tensor in crossing:
        if tensor in raw:
            raise LoadFailed(
                f"{name}: tensor {tensor[:100]!r} is the input in another form, and spec.egress.input keeps the input "
                f"from the node that comes next: {_REMEDY}"
            )
