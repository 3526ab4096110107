"""The grid: four models × three forms × concurrency and open-loop rates, for our server, others beside it, and floors.

Run by `make bench-grid`. Our server is started for each model; others are given by address and must serve the models of
`grid_models.py` under the same names. At each point the servers take turns, in the reverse order every other round, so
that a machine that is busy for a while troubles all alike; each figure is the median of the rounds. A bare server that
only answers is measured with them in the closed loops.

Open loops are at shares of the capacity of the slowest server, all servers at one rate, so that their latencies can be
compared; and at the same shares of our own capacity, for ours alone. Others are not measured at shares of theirs: it
would take longer and could be compared with nothing.

The whole grid takes about 9 minutes, with one peer 16, and 5 more for each further one; it says so when it begins.
Exit status 1: requests failed, or our own server was left out of a form.

    python benchmarks/grid.py --peer triton=localhost:9000,localhost:9001
"""

import argparse
import json
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import grid_models
from bare_server import bare_server
from grid_report import BARE, OURS, Cell, Floor, GridPoint, GridReport, LeftOut, machine
from grid_table import markdown

from ortolan.bench.figures import Figures, figures, median
from ortolan.bench.inputs import random_inputs
from ortolan.bench.load import Form, Load
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.measured_server import Addresses, MeasuredServer, Point, capacity, found_at
from ortolan.bench.plan import address_of, positive, some, whole
from ortolan.bench.process_usage import with_descendants
from ortolan.bench.served_model import served_model, server_name
from ortolan.bench.session_floor import session_floor
from ortolan.bench.started_server import started_server
from ortolan.errors import StartupError

ROWS = (1, 2, 4, 8, 16, 32)
WARM_UP_S = 0.3
FLOOR_S = 0.3
# What a point takes beside its seconds, and a model beside its points: answers that come late, starts, floors.
POINT_S = 0.1
MODEL_S = 15
# As many rows in a batch as the peers' configurations allow; without it the models would get 4, as Triton gives them.
AS_PEERS = ("--default-max-batch-size=32",)


@dataclass(frozen=True)
class Plan:
    models: Sequence[str]
    forms: Sequence[Form]
    clients: Sequence[int]
    shares: Sequence[float]
    seconds: float
    rounds: int
    peers: Mapping[str, Addresses]
    ours: Mapping[str, Sequence[str]]
    """Our servers by name, and the flags of each."""
    bare: bool

    def duration_s(self) -> float:
        """About how long the grid takes."""
        compared = len(self.ours) + len(self.peers)
        alone = len(self.ours) if compared > 1 else 0
        points = len(self.clients) * (compared + self.bare) + len(self.shares) * (compared + alone)
        each_s = self.rounds * (WARM_UP_S + self.seconds + POINT_S)
        return len(self.models) * (len(self.forms) * points * each_s + MODEL_S)


@dataclass
class Contenders:
    """The servers that are measured at one point, one after the other in each round."""

    measure: Callable[[str, Point], Figures]
    """Of the server with that name. Raises StartupError or LookupError when it does not answer."""
    rounds: int
    refused: dict[str, str] = field(default_factory=dict)
    """Servers that do not answer this form, and what they say."""
    turns: int = 0
    """How often all have had their turn, over all points: an odd number of rounds is even over two points."""

    def cells(self, point: GridPoint, names: Iterable[str]) -> Iterator[Cell]:
        """Measure the servers called ``names`` at one point, those left out that were refused before."""
        found: dict[str, list[Figures]] = {name: [] for name in names if name not in self.refused}
        for _ in range(self.rounds):
            for name in reversed(found) if self.turns % 2 else found:
                try:
                    found[name].append(self.measure(name, point.asked()))
                except (StartupError, LookupError) as error:
                    self.refused[name] = " ".join(str(error).split())
            self.turns += 1
        return (Cell(point, name, median(rounds)) for name, rounds in found.items() if name not in self.refused)


class BareServer(MeasuredServer):
    """Answers with the same bytes whatever it is asked, so that nothing can be compared."""

    def figures(self, process: LoadProcess, point: Point, seconds: float, warm_up_s: float) -> Figures:
        requests = tuple(replace(each, answer=None) for each in self._requests[point.form])
        watched = self.addresses.processes
        return figures(
            process.outcome(Load(self.addresses.http, requests, point.clients, seconds, warm_up_s, watched=watched))
        )


def measure(
    plan: Plan, form: Form, servers: Mapping[str, MeasuredServer], process: LoadProcess, report: GridReport
) -> None:
    """Measure all servers in one form, and add that to ``report``."""
    with ExitStack() as stack:
        first = next(iter(servers.values()))
        racing = {**servers, BARE: bare(stack, form, first)} if plan.bare else servers

        def figures_of(name: str, point: Point) -> Figures:
            return racing[name].figures(process, point, plan.seconds, WARM_UP_S)

        contenders = Contenders(figures_of, plan.rounds)
        for cell in form_cells(plan, first.model, form, racing, contenders):
            report.cells.append(cell)
            print(cell.line(), flush=True)
        for name, why in contenders.refused.items():
            report.left_out.append(LeftOut(first.model, form, name, why))
            print(f"  {name} is left out of {form.title}: {why}", file=sys.stderr)


def bare(stack: ExitStack, form: Form, like: MeasuredServer) -> BareServer:
    """A bare server whose answers are as long as those of ``like``."""
    requests = like.requests(form)
    addresses = stack.enter_context(bare_server(form, requests[0].answer or b""))
    return BareServer(addresses, like.model, like.inputs, {form: requests})


def form_cells(plan: Plan, model: str, form: Form, names: Collection[str], contenders: Contenders) -> Iterator[Cell]:
    closed: dict[str, dict[int, Figures]] = {}
    for clients in plan.clients:
        for cell in contenders.cells(GridPoint(model, form, clients), names):
            closed.setdefault(cell.server, {})[clients] = cell.figures
            yield cell
    capacities = {name: capacity(found) for name, found in closed.items() if name != BARE and capacity(found)}
    for share in plan.shares:
        for owner, asked in open_loops(capacities, tuple(plan.ours)):
            rate = share * capacities[owner]
            yield from contenders.cells(GridPoint(model, form, max(plan.clients), share, owner, rate), asked)


def open_loops(capacities: Mapping[str, float], ours: Collection[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Whose capacity sets a rate, and which servers are measured at it: all at the slowest's, ours at its own."""
    if not capacities:
        return
    slowest = min(capacities, key=lambda name: capacities[name])
    yield slowest, list(capacities)
    yield from ((name, [name]) for name in ours if name in capacities and name != slowest)


def model_cells(plan: Plan, file: Path, process: LoadProcess, report: GridReport) -> None:
    """Measure everything of one model, and add it to ``report``."""
    name = file.parents[1].name
    with ExitStack() as stack:
        addresses: dict[str, Addresses] = {}
        for ours, flags in plan.ours.items():
            started = stack.enter_context(started_server([str(file.parents[1])], flags))
            processes = with_descendants([started.process_id])
            addresses[ours] = Addresses(ours, started.http, started.grpc, processes)
            report.starts.append((name, ours, started.ready_s))
        addresses.update(plan.peers)
        inputs = random_inputs(served_model(next(iter(addresses.values())).http, name), 1, {}, 1)
        servers = {each: MeasuredServer(found, name, inputs) for each, found in addresses.items()}
        report.programs.update({each: server_name(found.http) for each, found in addresses.items()})
        for form in plan.forms:
            measure(plan, form, servers, process, report)
        # With nobody else at work.
        if plan.ours:
            report.floors += floors(name, file, served_model(addresses[next(iter(plan.ours))].http, name))


def floors(name: str, file: Path, model: object) -> Iterator[Floor]:
    several = replace(model, max_batch_size=max(ROWS))
    batches = {rows: {each.name: each.array for each in random_inputs(several, rows, {}, 1)[0]} for rows in ROWS}
    for rows, rate in session_floor(file, batches, FLOOR_S).items():
        yield Floor(name, rows, rate)


def plan_of(given: argparse.Namespace) -> Plan:
    """Raises StartupError or ValueError for what is no plan."""
    peers = {}
    for text in given.peer:
        name, _, addresses = text.partition("=")
        http, _, grpc = addresses.partition(",")
        peers[name] = found_at(
            name, address_of("--peer", http, 8000), address_of("--peer", grpc, 8001) if grpc else None
        )
    ours = {} if given.only_peers else {OURS: AS_PEERS}
    for text in given.variant:
        name, _, flags = text.partition("=")
        ours[name] = shlex.split(flags)
    names = [OURS, BARE, *(text.partition("=")[0] for text in (*given.peer, *given.variant))]
    if len(set(names)) < len(names):
        raise ValueError("--peer, --variant: each server needs a name of its own")
    if not ours and not peers:
        raise ValueError("--only-peers needs a --peer")
    return Plan(
        [known("--models", each, grid_models.MODELS) for each in some("--models", given.models)],
        [Form(known("--forms", each, [form.value for form in Form])) for each in some("--forms", given.forms)],
        [whole("--clients", each) for each in some("--clients", given.clients)],
        [positive("--rates", each) for each in some("--rates", given.rates)] if given.rates else [],
        positive("--seconds", given.seconds),
        whole("--rounds", given.rounds),
        peers,
        ours,
        not given.no_bare,
    )


def known(flag: str, text: str, names: Sequence[str]) -> str:
    if text not in names:
        raise ValueError(f"{flag}: expected some of {', '.join(names)}, got {text!r}")
    return text


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--peer", action="append", default=[], metavar="NAME=HTTP[,GRPC]", help="another server, by its addresses")
    add("--variant", action="append", default=[], metavar="NAME=FLAGS", help="our server once more, with these flags")
    add("--only-peers", action="store_true", help="leave our server out")
    add("--no-bare", action="store_true", help="leave the bare servers out")
    add("--models", default=",".join(grid_models.MODELS))
    add("--forms", default=",".join(form.value for form in Form))
    add("--clients", default="1,8,32")
    add("--rates", default="0.5,0.9", help="open-loop rates, as shares of a capacity; '' for none")
    add("--seconds", default="2", help="for each point and round")
    add("--rounds", default="2")
    add("--out", type=Path, default=Path("build/grid"), help="where grid.json, grid.md and the PNG files go")
    return found


def main() -> int:
    given = parser().parse_args()
    try:
        plan = plan_of(given)
        print(f"about {math.ceil(plan.duration_s() / 60)} minutes", file=sys.stderr)
        report = GridReport(machine(), without_out(sys.argv[1:]), plan.seconds, plan.rounds)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, LoadProcess() as process:
            for name in plan.models:
                model_cells(plan, grid_models.write(Path(folder), name), process, report)
    except (StartupError, ValueError) as error:
        print(f"grid: {error}", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "grid.json").write_text(json.dumps(report.as_json(), indent=1))
    (given.out / "grid.md").write_text(markdown(report), "utf-8")
    print(f"\n{markdown(report)}")
    print(f"{time.monotonic() - begin:.0f} s; {given.out / 'grid.json'}, {given.out / 'grid.md'}")
    draw(report, given.out)
    return status(report, plan)


def without_out(arguments: Sequence[str]) -> str:
    """The arguments as they are told: where the files go is nobody else's."""
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("--out")
    return shlex.join(known.parse_known_args(arguments)[1])


def status(report: GridReport, plan: Plan) -> int:
    """1 when requests failed or one of our own servers could not be measured; peers may lack a form."""
    failed = sum(cell.figures.faults for cell in report.cells)
    if failed:
        print(f"grid: {failed} requests failed", file=sys.stderr)
    return 1 if failed or any(each.server in plan.ours for each in report.left_out) else 0


def draw(report: GridReport, out: Path) -> None:
    try:
        import charts
    except ImportError:
        print('no curves: pip install "ortolan[bench]" brings matplotlib, which draws them')
        return
    for path in charts.draw(report.cells, out):
        print(path)


if __name__ == "__main__":
    raise SystemExit(main())
