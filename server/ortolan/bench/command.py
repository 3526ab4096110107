"""`ortolan bench`: measure one model, with a server started for it or on one that runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ortolan.bench.advice import advice
from ortolan.bench.figures import Figures
from ortolan.bench.inputs import inputs_of_file, random_inputs
from ortolan.bench.load import Form
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.measured_server import Addresses, Inputs, MeasuredServer, Point, capacity, found_at
from ortolan.bench.plan import Plan
from ortolan.bench.process_usage import with_descendants
from ortolan.bench.report import Measured, Report, RowsMeasured, as_text
from ortolan.bench.served_model import ServedModel, only_model, run_counts, served_model, server_name
from ortolan.bench.session_floor import session_floor
from ortolan.bench.started_server import started_server
from ortolan.errors import StartupError
from ortolan.inference.datatypes import BF16
from ortolan.inference.request import Tensor

_WARM_UP_S = 0.5
_FLOOR_S = 0.3


@dataclass(frozen=True, slots=True)
class _Subject:
    addresses: Addresses
    ready_s: float | None


def bench(plan: Plan) -> str:
    """The report as text, or as JSON if the plan says so. Raises StartupError when nothing can be measured."""
    with _subject(plan) as subject, LoadProcess() as process:
        report = _measure(plan, subject, process)
    sentences = [*advice(report), *_left_out(plan)]
    return json.dumps(report.as_json(sentences), indent=2) if plan.as_json else as_text(report, sentences)


def _left_out(plan: Plan) -> list[str]:
    """What was not measured, although it was not said that it should not be."""
    missing = plan.http is not None and plan.grpc is None
    return ["gRPC was not measured: give --grpc-url, such as 127.0.0.1:8001"] if missing else []


@contextmanager
def _subject(plan: Plan) -> Iterator[_Subject]:
    """The server to be measured, started if none runs."""
    if plan.http is not None:
        yield _Subject(found_at(server_name(plan.http), plan.http, plan.grpc), None)
        return
    with started_server([plan.model]) as server:
        processes = with_descendants([server.process_id])
        addresses = Addresses(server_name(server.http), server.http, server.grpc, processes)
        yield _Subject(addresses, server.ready_s)


def _measure(plan: Plan, subject: _Subject, process: LoadProcess) -> Report:
    http = subject.addresses.http
    if http is None:
        raise StartupError("what the model is like is asked over HTTP: give --url")
    model = served_model(http, plan.named or only_model(http, plan.model or str(http)))
    inputs = _inputs(plan, model, 1)
    server = MeasuredServer(subject.addresses, model.name, inputs)
    points = [measured for form in plan.forms for measured in _points(plan, server, form, process)]
    floors, note = _floors(plan, model)
    return Report(
        subject.addresses.name,
        model.name,
        _described(inputs, plan.request_file),
        subject.ready_s,
        tuple(points),
        tuple(_by_rows(plan, model, server, floors, process)),
        note,
    )


def _points(plan: Plan, server: MeasuredServer, form: Form, process: LoadProcess) -> list[Measured]:
    """All points of one form: first the closed loops, then shares of the capacity that these have shown."""
    closed: dict[int, Figures] = {}
    found = []
    for clients in plan.clients:
        measured = _point(plan, server, Point(form, clients), None, process)
        closed[clients] = measured.figures
        found.append(measured)
    most = capacity(closed)
    for share in plan.shares if most else ():
        point = Point(form, max(plan.clients), share * most)
        found.append(_point(plan, server, point, share, process))
    return found


def _point(plan: Plan, server: MeasuredServer, point: Point, share: float | None, process: LoadProcess) -> Measured:
    http = server.addresses.http
    server.requests(point.form)
    before = run_counts(http, server.model) if http else (0, 0)
    found = server.figures(process, point, plan.seconds, min(_WARM_UP_S, plan.seconds))
    after = run_counts(http, server.model) if http else (0, 0)
    runs = after[1] - before[1]
    return Measured(point, share, found, (after[0] - before[0]) / runs if runs > 0 else None)


def _by_rows(
    plan: Plan, model: ServedModel, server: MeasuredServer, floors: Mapping[int, float], process: LoadProcess
) -> Iterator[RowsMeasured]:
    """Requests of several rows from one client, in the first form that was asked for."""
    for rows in _row_counts(plan, model):
        several = MeasuredServer(server.addresses, model.name, _inputs(plan, model, rows))
        try:
            found = several.figures(process, Point(plan.forms[0], 1), plan.seconds / 2, min(_WARM_UP_S, plan.seconds))
        except StartupError:
            # Not every model takes as many rows as its shapes let one hope.
            found = None
        yield RowsMeasured(rows, found, floors.get(rows))


def _row_counts(plan: Plan, model: ServedModel) -> list[int]:
    most = max(model.max_batch_size or max(plan.rows), 1) if model.takes_rows and not plan.request_file else 1
    return sorted({1, *(rows for rows in plan.rows if rows <= most)})


def _floors(plan: Plan, model: ServedModel) -> tuple[dict[int, float], str]:
    """Rows per second without a server, and why there are none."""
    file = _model_file(plan, model)
    if file is None:
        return {}, "session.run by itself needs the model's .onnx file"
    batches = {
        rows: {each.name: each.array for each in _inputs(plan, model, rows)[0]} for rows in _row_counts(plan, model)
    }
    if any(each.datatype is BF16 for each in model.inputs):
        return {}, "session.run takes no bfloat16 from Python"
    try:
        return session_floor(file, batches, min(_FLOOR_S, plan.seconds)), ""
    except ValueError as error:
        return {}, f"session.run does not take the model as its file is: {error}"


def _model_file(plan: Plan, model: ServedModel) -> Path | None:
    """The file of the newest version that is served, where MODEL is a path to it or to a directory above it."""
    path = Path(plan.model)
    if plan.http is not None or not path.exists():
        return None
    if path.is_file():
        return path
    newest = max(model.versions, key=lambda version: int(version) if version.isdecimal() else 0, default="1")
    candidates = (path / newest / "model.onnx", path / model.name / newest / "model.onnx")
    return next((each for each in candidates if each.is_file()), None)


def _inputs(plan: Plan, model: ServedModel, rows: int) -> Inputs:
    if plan.request_file:
        return [inputs_of_file(Path(plan.request_file))]
    return random_inputs(model, rows, plan.shapes, plan.seed)


def _described(inputs: Inputs, request_file: str) -> str:
    def tensor(each: Tensor) -> str:
        return f"{each.name} {each.datatype.name} {list(each.shape)}"

    origin = f"as in {request_file}" if request_file else _random(inputs)
    return f"{', '.join(tensor(each) for each in inputs[0])}: {origin}"


def _random(inputs: Sequence[object]) -> str:
    return "random values" if len(inputs) == 1 else f"random values, {len(inputs)} requests in turn"
