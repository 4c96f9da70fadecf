"""`maleo model zoo`, `import`, `push`."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import onnx
import onnxruntime
import typer
import yaml

from maleo_api.device import Precision
from maleo_api.manifests import Dumper, check
from maleo_api.meta import API_VERSION, Basis
from maleo_api.model import Block, Cut, Model, size_of
from maleo_api.quantities import BYTES, RATIO, WORK, parse, show
from maleo_artifacts import registry
from maleo_cli.errors import Failure
from maleo_cli.model import zoo
from maleo_cli.model.analysis import Analysis, Crossing, analyse
from maleo_cli.model.codecs import NAMES, CodecName, NoCodec, save
from maleo_cli.model.codecs import make as make_codec
from maleo_cli.model.compare import compare, names
from maleo_cli.model.fusion import find_fusions
from maleo_runtime.values import Unsuitable, inline, list_graphs

_UNCUT: Final = (
    "runs whole only (everywhere more than three tensors cross, shapes are not fixed, or ONNX Runtime fuses)"
)
_UNBROKEN: Final = 1 << 16
_NAME: Final = r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""A name that Kubernetes takes, in the length that the objects of a mission repeat."""
_DOMAINS: Final = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
"""Operators that every ONNX Runtime has."""

PullFrom = Annotated[
    str, typer.Option("--as", help="The same repository as nodes reach it, where that is not the address above.")
]
Store = Callable[[Path], Awaitable[dict[str, str]]]

app: Final = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command("zoo")
def make_zoo(
    name: Annotated[str, typer.Argument(help="squeezenet, shufflenet, resnet50 or digits.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("build/models"),
) -> None:
    """Write a network to try Maleo with: fp32, and int8."""
    with _writing(out):
        made = zoo.make(name, out)
    for variant, path in made.files.items():
        measured = made.accuracy.get(variant)
        print(f"{path}" + (f"  {measured[0]} on {measured[1]}: {measured[2]:.2%}" if measured else ""))


@app.command("import")
def import_model(
    files: Annotated[list[str], typer.Argument(help="VARIANT:PRECISION=FILE.onnx, such as fast:int8=model.onnx.")],
    name: Annotated[str, typer.Option(help="Name of the Model.")],
    push: Annotated[
        str, typer.Option(help="Registry, such as oci://host:5000/models/name; else files are named.")
    ] = "",
    pull_from: PullFrom = "",
    accuracy: Annotated[
        list[str] | None,
        typer.Option(
            help="VARIANT[+CODEC]:METRIC:DATASET=VALUE[:BASIS], such as fast:top-1:imagenet-1k=74.1%:Measured."
        ),
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="fp16, int8: other forms in which FP32 cuts may be crossed.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", help="Where to write the manifest; else it is printed.")] = None,
    *,
    through_fusions: Annotated[
        bool, typer.Option("--through-fusions", help="Also offer cuts inside fusions of ONNX Runtime: they cost speed.")
    ] = False,
) -> None:
    """Find where ONNX files may be cut and what their blocks cost; write one Model with a variant for each."""
    if pull_from and not push:
        raise Failure("--as is given without --push", "name the repository to store the files in: --push", exit_code=2)
    manifest = asyncio.run(
        build(
            name,
            _parse_files(files),
            repository=push,
            pull_from=pull_from,
            accuracy=_parse_accuracy(accuracy or []),
            codecs=_parse_codecs(codec or []),
            through_fusions=through_fusions,
        )
    )
    text = to_yaml(manifest)
    if out is None:
        print(text, end="")
        return
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    for variant in manifest["spec"]["variants"]:
        cuts = sum("cut" in block for block in variant["blocks"])
        said = f"{len(variant['blocks'])} blocks, {cuts} cuts" if cuts else _UNCUT
        print(f"{name} {variant['name']}: {said}, {variant['artifacts'][0]['uri']}")


@app.command("push")
def push_model(
    file: Annotated[Path, typer.Argument(exists=True)],
    repository: Annotated[str, typer.Argument(help="Such as oci://host:5000/models/name.")],
    pull_from: PullFrom = "",
) -> None:
    """Store a file in a registry; prints its address by digest."""
    print(asyncio.run(_store(file, repository=repository, pull_from=pull_from))["uri"])


async def build(
    name: str,
    variants: Mapping[str, tuple[str, Path]],
    *,
    repository: str,
    pull_from: str = "",
    accuracy: Mapping[str, Sequence[Mapping[str, str]]],
    codecs: Sequence[CodecName] = (),
    through_fusions: bool = False,
) -> dict[str, Any]:
    """The Model's manifest. variants: name -> (precision, file); accuracy: rows of a variant, or of `variant+codec`.

    Files are stored in `repository`, and named as in `pull_from`, its address on the nodes; empty: the same.
    Writes notes to stderr. Failure names the file and what is wrong with it, before anything is stored.
    """
    if not variants:
        raise Failure("no file was given", exit_code=2)
    known = [*variants, *(f"{variant}+{codec}" for variant in variants for codec in codecs)]
    unknown = next((name for name in accuracy if name not in known), None)
    if unknown is not None:
        raise Failure(f"there is no variant {unknown!r} to give an accuracy to", f"there is {', '.join(known)}")
    found = {variant: _analyse(file, through_fusions=through_fusions) for variant, (_, file) in variants.items()}
    first = next(iter(found.values()))
    for variant, analysis in found.items():
        if (analysis.inputs, analysis.outputs) != (first.inputs, first.outputs):
            file = variants[variant][1]
            raise Failure(f"{file}: inputs and outputs differ from those of the first variant", "import it as a Model")
    manifest: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "Model",
        "metadata": {"name": name},
        "spec": {
            "inputs": [tensor.to_api() for tensor in first.inputs],
            "outputs": [tensor.to_api() for tensor in first.outputs],
            "variants": [
                _describe(variant, precision, _locate(file), found[variant], accuracy.get(variant, ()))
                for variant, (precision, file) in variants.items()
            ],
        },
    }
    _check(manifest)  # before anything is written or pushed
    store = partial(_store, repository=repository, pull_from=pull_from)
    for variant, stated in zip(variants, manifest["spec"]["variants"], strict=True):
        file = variants[variant][1]
        for note in found[variant].notes:
            _note(f"{name} {variant}: {note}")
        rows = {codec: accuracy.get(f"{variant}+{codec}", ()) for codec in codecs}
        stated["artifacts"] = [await store(file)]
        for row, block in zip(stated["blocks"], found[variant].blocks, strict=True):
            row.update(await _add_codecs(f"{name} {variant}", file, block, rows, store))
    _check(manifest)
    return manifest


def _describe(
    variant: str, precision: str, artifact: Mapping[str, str], found: Analysis, accuracy: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    return {
        "name": variant,
        "precision": precision,
        "cutting": "Graph" if any(block.cut for block in found.blocks) else "None",
        "artifacts": [artifact],
        "requires": {"runtime": "onnxruntime"},
        "accuracy": list(accuracy),
        "blocks": [_to_api(block) for block in found.blocks],
    }


def _to_api(block: Block) -> dict[str, Any]:
    made = block.to_api()
    if block.cut is not None and not block.cut.codecs:
        del made["cut"]["codecs"]
    return made


def _check(manifest: dict[str, Any]) -> None:
    """Failure with the first rule of the API that the manifest breaks."""
    name = manifest["metadata"]["name"]
    if not re.fullmatch(_NAME, name):
        raise Failure(
            f"{name!r} is no name of a Model", "write lower case letters, digits and -, at most 63", exit_code=2
        )
    for mistake in check(manifest, Model):
        raise Failure(f"Model {name}: {mistake}", "nothing was written")


def _note(text: str) -> None:
    """To people, beside the manifest that may be printed."""
    typer.echo(text, err=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Failure instead of what the operating system raises."""
    try:
        yield
    except OSError as error:
        raise Failure(
            f"{path} cannot be written: {error.strerror or error}", "name a file that you may write"
        ) from error


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """Text of a Model with one line for each block: there are many, and people compare them."""
    variants = [v | {"blocks": [_Line(block) for block in v["blocks"]]} for v in manifest["spec"]["variants"]]
    spec = manifest["spec"] | {"variants": variants}
    return yaml.dump({**manifest, "spec": spec}, Dumper=_Dumper, sort_keys=False, width=_UNBROKEN)


class _Line(dict[str, Any]):
    """A mapping that is printed on one line."""


class _Dumper(Dumper):
    pass


_Dumper.add_representer(
    _Line, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)


def _analyse(file: Path, *, through_fusions: bool) -> Analysis:
    """Only what the runtime takes: a model that does not load here would not load on a drone."""
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # the protobuf runtime raises classes of its own
        raise Failure(f"{file}: no ONNX model: {type(error).__name__}") from error
    try:
        _refuse_custom_operators(model)
        fusions = None if through_fusions else find_fusions(inline(model))
        found = analyse(model, fusions, through_fusions=through_fusions)
    except Unsuitable as error:
        raise Failure(f"{file}: {error}") from error
    try:
        onnxruntime.InferenceSession(str(file), _quiet(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen classes, RuntimeError among them
        said = " ".join(str(error).split())[-300:]
        newer = "opset" in said.lower() or "ir version" in said.lower()
        remedy = "export it anew with an older opset" if newer else "check the model with onnx.checker.check_model"
        raise Failure(
            f"{file}: {said}", f"ONNX Runtime {onnxruntime.__version__} does not take it: {remedy}"
        ) from error
    seen = compare(model, found)
    if seen.wrong:
        found = analyse(model, fusions, through_fusions=through_fusions, without=seen.wrong)
    blocks = [_with_deviation(block, seen.deviations) for block in found.blocks]
    return replace(found, blocks=blocks, notes=[*found.notes, *seen.notes])


def _with_deviation(block: Block, deviations: Mapping[Crossing, float]) -> Block:
    """Return the block, with what its cut changes of the answer if that was measured."""
    share = deviations.get(names(block.cut.tensors)) if block.cut is not None else None
    if block.cut is None or share is None:
        return block
    deviation = show(RATIO, share, digits=2, rounding="up")
    return block.model_copy(update={"cut": block.cut.model_copy(update={"deviation": deviation})})


def _refuse_custom_operators(model: onnx.ModelProto) -> None:
    """Slots load no libraries of operators, so that such a model could be loaded nowhere."""
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while nodes:
        node = nodes.pop()
        nodes += [inner for graph in list_graphs(node) for inner in graph.node]
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise Unsuitable(
                f"{node.op_type} of domain {node.domain!r} is a custom operator, and slots have none: express it by "
                "standard operators, or as a function inside the model"
            )


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


async def _add_codecs(
    variant: str, file: Path, block: Block, codecs: Mapping[CodecName, Sequence[Mapping[str, str]]], store: Store
) -> dict[str, Any]:
    """The block's cut with its codecs, whose files are written beside the model's; empty where there are none.

    codecs: accuracy of the variant with each.
    """
    if block.cut is None:
        return {}
    rows = []
    for name, accuracy in codecs.items():
        try:
            rows.append(await _add_codec(name, block.cut, accuracy, (file, block, store)))
        except NoCodec as error:
            _note(f"{variant}: no {name} for the cut after {block.name}: {error}")
    return {"cut": block.cut.to_api() | {"codecs": rows}} if rows else {}


async def _add_codec(
    name: CodecName, cut: Cut, accuracy: Sequence[Mapping[str, str]], place: tuple[Path, Block, Store]
) -> dict[str, Any]:
    file, block, store = place
    made = make_codec(name, cut)
    encoder, decoder = (_beside(file, block, name, side) for side in ("encoder", "decoder"))
    with _writing(encoder):
        save(made.encoder, encoder)
        save(made.decoder, decoder)
    return {
        "name": name,
        "size": show(BYTES, size_of(made.tensors), digits=6),
        "tensors": [tensor.to_api() for tensor in made.tensors],
        "encoder": await store(encoder),
        "decoder": await store(decoder),
        "encode": show(WORK, made.encode),
        "decode": show(WORK, made.decode),
        "accuracy": list(accuracy),
    }


def _beside(file: Path, block: Block, codec: str, side: str) -> Path:
    return file.with_name(f"{file.stem}-{block.name}-{codec}-{side}.onnx")


def _locate(file: Path) -> dict[str, str]:
    size = show(BYTES, file.stat().st_size, digits=6)
    return {"uri": file.resolve().as_uri(), "digest": registry.digest_of(file), "format": "onnx", "size": size}


async def _store(file: Path, *, repository: str, pull_from: str) -> dict[str, str]:
    found = _locate(file)
    if not repository:
        return found
    try:
        target = registry.Location.parse(pull_from or repository)
        _, digest = await registry.push(repository, file)
    except registry.TransferFailed as error:
        raise Failure(f"{file}: {error}", "is the registry there, and may this machine reach it?") from error
    return found | {"uri": f"oci://{target.host}/{target.repository}@{digest}", "digest": digest}


def _parse_files(texts: Sequence[str]) -> dict[str, tuple[str, Path]]:
    found = {}
    for text in texts:
        head, separator, path = text.partition("=")
        variant, colon, precision = head.partition(":")
        if not separator or not colon:
            raise Failure(
                f"{text!r} is no variant",
                "write VARIANT:PRECISION=FILE.onnx, such as fast:int8=model.onnx",
                exit_code=2,
            )
        if precision not in get_args(Precision):
            raise Failure(f"{precision!r} is no precision", f"it is {', '.join(get_args(Precision))}", exit_code=2)
        if variant in found:
            raise Failure(f"variant {variant!r} is given twice", "give each file a name of its own", exit_code=2)
        if not Path(path).is_file():
            raise Failure(f"there is no file {path}", exit_code=2)
        found[variant] = (precision, Path(path))
    return found


def _parse_codecs(texts: Sequence[str]) -> list[CodecName]:
    for text in texts:
        if text not in NAMES:
            raise Failure(f"{text!r} is no codec", f"it is {' or '.join(NAMES)}", exit_code=2)
    return [name for name in NAMES if name in texts]


def _parse_accuracy(texts: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for text in texts:
        head, _, value = text.partition("=")
        parts = head.split(":")
        if len(parts) != 3:  # noqa: PLR2004 - variant, metric, data set
            raise Failure(f"{text!r} is no accuracy", "write VARIANT:METRIC:DATASET=VALUE[:BASIS]", exit_code=2)
        value, _, basis = value.partition(":")
        try:
            parse(RATIO, value)
            row = {"metric": parts[1], "dataset": parts[2], "value": value, "basis": Basis(basis or "Declared").value}
        except ValueError as error:
            raise Failure(f"{text}: {error}", exit_code=2) from error
        found.setdefault(parts[0], []).append(row)
    return found
