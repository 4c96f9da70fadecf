"""Create Models from ONNX files, with legal cuts and costs, and push files to a registry."""

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
from maleo_cli.model.analysis import Analysis, Crossing, analyze
from maleo_cli.model.codecs import NAMES, CodecName, NoCodec, save
from maleo_cli.model.codecs import make as make_codec
from maleo_cli.model.compare import compare, names
from maleo_cli.model.fusion import find_fusions
from maleo_runtime.values import UnsupportedGraph, inline, list_graphs

_UNCUT: Final = (
    "no cuts (at every place more than three tensors cross, shapes are not fixed, or ONNX Runtime fuses kernels)"
)
_LINE_WIDTH: Final = 1 << 16
"""Line width of the YAML output, so that a block is never wrapped."""
_NAME: Final = r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""Valid Kubernetes name, short enough for the names derived from it."""
_DOMAINS: Final = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
"""Operator domains that every ONNX Runtime supports."""

PullFrom = Annotated[str, typer.Option("--as", help="Address of the same repository for nodes, if it differs.")]
Store = Callable[[Path], Awaitable[dict[str, str]]]

app: Final = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


@app.command("zoo")
def make_zoo(
    name: Annotated[str, typer.Argument(help="Network: squeezenet, shufflenet, resnet50 or digits.")],
    out: Annotated[Path, typer.Option(help="Folder to write the files to.")] = Path("build/models"),
) -> None:
    """Write the ONNX files of an example network, as fp32 and int8."""
    with _writing(out):
        network = zoo.make(name, out)
    for variant, path in network.files.items():
        measured = network.accuracy.get(variant)
        print(f"{path}" + (f"  {measured[0]} on {measured[1]}: {measured[2]:.2%}" if measured else ""))


@app.command("import")
def import_model(
    files: Annotated[list[str], typer.Argument(help="VARIANT:PRECISION=FILE.onnx, for example fast:int8=model.onnx.")],
    name: Annotated[str, typer.Option(help="Name of the Model.")],
    push: Annotated[
        str,
        typer.Option(help="Repository to push to, for example oci://host:5000/models/name; default: use file URIs."),
    ] = "",
    pull_from: PullFrom = "",
    accuracy: Annotated[
        list[str] | None,
        typer.Option(
            help="VARIANT[+CODEC]:METRIC:DATASET=VALUE[:BASIS], for example fast:top-1:imagenet-1k=74.1%:Measured."
        ),
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="Add codecs for the FP32 tensors of cuts: fp16, int8.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", help="File for the manifest; default: standard output.")] = None,
    *,
    through_fusions: Annotated[
        bool,
        typer.Option("--through-fusions", help="Also offer cuts that split fused kernels of ONNX Runtime."),
    ] = False,
) -> None:
    """Create a Model with one variant per ONNX file: legal cuts, and the cost of each block."""
    if pull_from and not push:
        raise Failure("--as requires --push", "pass the repository to push to with --push", exit_code=2)
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
        summary = f"{len(variant['blocks'])} blocks, {cuts} cuts" if cuts else _UNCUT
        print(f"{name} {variant['name']}: {summary}, {variant['artifacts'][0]['uri']}")


@app.command("push")
def push_model(
    file: Annotated[Path, typer.Argument(exists=True, help="File to push.")],
    repository: Annotated[str, typer.Argument(help="Repository, for example oci://host:5000/models/name.")],
    pull_from: PullFrom = "",
) -> None:
    """Push a file to a registry and print its URI with digest."""
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
    """Return the manifest of a Model and push its files; write notes to stderr.

    variants: name -> (precision, file). accuracy: rows of a variant, or of `variant+codec`. repository: where files are
    pushed; empty to use file URIs. pull_from: address of the repository for nodes; empty if it is the same. Raise
    `Failure`, before anything is pushed, if a file or an argument is invalid.
    """
    if not variants:
        raise Failure("no files to import", "write VARIANT:PRECISION=FILE.onnx", exit_code=2)
    names = [*variants, *(f"{variant}+{codec}" for variant in variants for codec in codecs)]
    unknown = next((name for name in accuracy if name not in names), None)
    if unknown is not None:
        raise Failure(f"--accuracy: unknown variant {unknown!r}", f"known variants: {', '.join(names)}")
    analyses = {variant: _analyse(file, through_fusions=through_fusions) for variant, (_, file) in variants.items()}
    first = next(iter(analyses.values()))
    for variant, analysis in analyses.items():
        if (analysis.inputs, analysis.outputs) != (first.inputs, first.outputs):
            file = variants[variant][1]
            raise Failure(
                f"{file}: inputs and outputs differ from those of the first variant", "import it as a separate Model"
            )
    manifest: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "Model",
        "metadata": {"name": name},
        "spec": {
            "inputs": [tensor.to_api() for tensor in first.inputs],
            "outputs": [tensor.to_api() for tensor in first.outputs],
            "variants": [
                _describe(variant, precision, _locate(file), analyses[variant], accuracy.get(variant, ()))
                for variant, (precision, file) in variants.items()
            ],
        },
    }
    _check(manifest)  # before anything is written or pushed
    store = partial(_store, repository=repository, pull_from=pull_from)
    for variant, manifest_variant in zip(variants, manifest["spec"]["variants"], strict=True):
        file = variants[variant][1]
        for note in analyses[variant].notes:
            _print_note(f"{name} {variant}: {note}")
        rows = {codec: accuracy.get(f"{variant}+{codec}", ()) for codec in codecs}
        manifest_variant["artifacts"] = [await store(file)]
        for row, block in zip(manifest_variant["blocks"], analyses[variant].blocks, strict=True):
            row.update(await _add_codecs(f"{name} {variant}", file, block, rows, store))
    _check(manifest)
    return manifest


def _describe(
    variant: str, precision: str, artifact: Mapping[str, str], analysis: Analysis, accuracy: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    return {
        "name": variant,
        "precision": precision,
        "cutting": "Graph" if any(block.cut for block in analysis.blocks) else "None",
        "artifacts": [artifact],
        "requires": {"runtime": "onnxruntime"},
        "accuracy": list(accuracy),
        "blocks": [_to_api(block) for block in analysis.blocks],
    }


def _to_api(block: Block) -> dict[str, Any]:
    row = block.to_api()
    if block.cut is not None and not block.cut.codecs:
        del row["cut"]["codecs"]
    return row


def _check(manifest: dict[str, Any]) -> None:
    """Raise `Failure` if the manifest is invalid."""
    name = manifest["metadata"]["name"]
    if not re.fullmatch(_NAME, name):
        raise Failure(f"invalid Model name {name!r}", "use at most 63 lower case letters, digits, - and .", exit_code=2)
    for mistake in check(manifest, Model):
        raise Failure(f"Model {name}: {mistake}", "correct the files or arguments; nothing was written")


def _print_note(text: str) -> None:
    """Print to stderr, since the manifest may be printed to stdout."""
    typer.echo(text, err=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Convert an OSError into `Failure`."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror or error}", "choose a writable path") from error


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """Return the YAML of a Model with one line per block, so that blocks can be compared."""
    variants = [v | {"blocks": [_Line(block) for block in v["blocks"]]} for v in manifest["spec"]["variants"]]
    spec = manifest["spec"] | {"variants": variants}
    return yaml.dump({**manifest, "spec": spec}, Dumper=_Dumper, sort_keys=False, width=_LINE_WIDTH)


class _Line(dict[str, Any]):
    """Mapping that is written on one line."""


class _Dumper(Dumper):
    pass


_Dumper.add_representer(
    _Line, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)


def _analyse(file: Path, *, through_fusions: bool) -> Analysis:
    """Return the analysis of a file. Raise `Failure` if ONNX Runtime cannot load it: slots could not either."""
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # the protobuf runtime raises classes of its own
        raise Failure(f"{file}: not an ONNX model ({type(error).__name__})", "export the model to ONNX") from error
    try:
        _reject_custom_operators(model)
        fusions = None if through_fusions else find_fusions(inline(model))
        analysis = analyze(model, fusions, through_fusions=through_fusions)
    except UnsupportedGraph as error:
        raise Failure(f"{file}: {error}") from error
    try:
        onnxruntime.InferenceSession(str(file), _quiet_options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen classes, RuntimeError among them
        cause = " ".join(str(error).split())[-300:]
        newer = "opset" in cause.lower() or "ir version" in cause.lower()
        remedy = "export the model with an older opset" if newer else "check the model with onnx.checker.check_model"
        raise Failure(f"{file}: ONNX Runtime {onnxruntime.__version__} cannot load it: {cause}", remedy) from error
    comparison = compare(model, analysis)
    if comparison.wrong:
        analysis = analyze(model, fusions, through_fusions=through_fusions, without=comparison.wrong)
    blocks = [_with_deviation(block, comparison.deviations) for block in analysis.blocks]
    return replace(analysis, blocks=blocks, notes=[*analysis.notes, *comparison.notes])


def _with_deviation(block: Block, deviations: Mapping[Crossing, float]) -> Block:
    """Return the block with the measured deviation of its cut, if there is one."""
    ratio = deviations.get(names(block.cut.tensors)) if block.cut is not None else None
    if block.cut is None or ratio is None:
        return block
    deviation = show(RATIO, ratio, digits=2, rounding="up")
    return block.model_copy(update={"cut": block.cut.model_copy(update={"deviation": deviation})})


def _reject_custom_operators(model: onnx.ModelProto) -> None:
    """Raise `UnsupportedGraph` for custom operators: slots load no custom operator libraries."""
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while nodes:
        node = nodes.pop()
        nodes += [inner for graph in list_graphs(node) for inner in graph.node]
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise UnsupportedGraph(
                f"{node.op_type} of domain {node.domain!r} is a custom operator, which slots do not support: "
                "replace it by standard operators, or by a model-local function"
            )


def _quiet_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


async def _add_codecs(
    variant: str, file: Path, block: Block, codecs: Mapping[CodecName, Sequence[Mapping[str, str]]], store: Store
) -> dict[str, Any]:
    """Return the block's cut with its codecs, whose files are written to the model's folder; empty if it has none.

    codecs: codec -> accuracy of the variant with it.
    """
    if block.cut is None:
        return {}
    rows = []
    for name, accuracy in codecs.items():
        try:
            rows.append(await _add_codec(name, block.cut, accuracy, (file, block, store)))
        except NoCodec as error:
            _print_note(f"{variant}: no {name} codec for the cut after {block.name}: {error}")
    return {"cut": block.cut.to_api() | {"codecs": rows}} if rows else {}


async def _add_codec(
    name: CodecName, cut: Cut, accuracy: Sequence[Mapping[str, str]], target: tuple[Path, Block, Store]
) -> dict[str, Any]:
    file, block, store = target
    codec = make_codec(name, cut)
    encoder, decoder = (_codec_path(file, block, name, side) for side in ("encoder", "decoder"))
    with _writing(encoder):
        save(codec.encoder, encoder)
        save(codec.decoder, decoder)
    return {
        "name": name,
        "size": show(BYTES, size_of(codec.tensors), digits=6),
        "tensors": [tensor.to_api() for tensor in codec.tensors],
        "encoder": await store(encoder),
        "decoder": await store(decoder),
        "encode": show(WORK, codec.encode),
        "decode": show(WORK, codec.decode),
        "accuracy": list(accuracy),
    }


def _codec_path(file: Path, block: Block, codec: str, side: str) -> Path:
    return file.with_name(f"{file.stem}-{block.name}-{codec}-{side}.onnx")


def _locate(file: Path) -> dict[str, str]:
    size = show(BYTES, file.stat().st_size, digits=6)
    return {"uri": file.resolve().as_uri(), "digest": registry.digest_of(file), "format": "onnx", "size": size}


async def _store(file: Path, *, repository: str, pull_from: str) -> dict[str, str]:
    artifact = _locate(file)
    if not repository:
        return artifact
    try:
        target = registry.Location.parse(pull_from or repository)
        _, digest = await registry.push(repository, file)
    except registry.TransferFailed as error:
        raise Failure(f"{file}: {error}", "check that the registry is running and reachable") from error
    return artifact | {"uri": f"oci://{target.host}/{target.repository}@{digest}", "digest": digest}


def _parse_files(texts: Sequence[str]) -> dict[str, tuple[str, Path]]:
    found = {}
    for text in texts:
        head, separator, path = text.partition("=")
        variant, colon, precision = head.partition(":")
        if not separator or not colon:
            raise Failure(
                f"invalid variant {text!r}",
                "write VARIANT:PRECISION=FILE.onnx, for example fast:int8=model.onnx",
                exit_code=2,
            )
        if precision not in get_args(Precision):
            names = ", ".join(get_args(Precision))
            raise Failure(f"{text}: unknown precision {precision!r}", f"known precisions: {names}", exit_code=2)
        if variant in found:
            raise Failure(f"duplicate variant {variant!r}", "give each file its own variant name", exit_code=2)
        if not Path(path).is_file():
            raise Failure(f"{path}: no such file", "check the path", exit_code=2)
        found[variant] = (precision, Path(path))
    return found


def _parse_codecs(texts: Sequence[str]) -> list[CodecName]:
    for text in texts:
        if text not in NAMES:
            raise Failure(f"--codec: unknown codec {text!r}", f"known codecs: {', '.join(NAMES)}", exit_code=2)
    return [name for name in NAMES if name in texts]


def _parse_accuracy(texts: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for text in texts:
        head, _, value = text.partition("=")
        parts = head.split(":")
        if len(parts) != 3:  # noqa: PLR2004 - variant, metric, data set
            raise Failure(
                f"--accuracy: invalid value {text!r}", "write VARIANT:METRIC:DATASET=VALUE[:BASIS]", exit_code=2
            )
        value, _, basis = value.partition(":")
        try:
            parse(RATIO, value)
            row = {"metric": parts[1], "dataset": parts[2], "value": value, "basis": Basis(basis or "Declared").value}
        except ValueError as error:
            raise Failure(f"--accuracy {text}: {error}", exit_code=2) from error
        found.setdefault(parts[0], []).append(row)
    return found
