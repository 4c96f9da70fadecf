"""Exact planning of one mission: the best feasible plan over all variants and modes, and every rejection.

Problem: choose a variant, an exit, legal cuts, a unit for each partition and a codec for each crossing, so that the
objective is largest within all Hard limits. On the partition graph of one variant (`partition_graph`) a plan is a path
that serves no unit twice: an elementary shortest path problem with resource constraints. The incumbent is the plan that
the mission holds.

Method: each combination of clipped and unclipped Soft limits makes the objective linear in the edge costs of a path and
gives one question (`objective`). Each question is answered by best-first search with Lagrangian bounds (`search`,
`lagrangian`). The incumbent and the best plan over each single unit are evaluated first and prune all questions. The
aim `rate` is answered by the pipeline programs (`pipeline`). Where no plan of up to `MOST_PARTITIONS` partitions is
feasible, `run_longer` looks for any plan of up to `MOST_STAGES` partitions (`feasibility`).

Complexity: exponential in the worst case. A deterministic work budget, `_PATIENCE` expansions a question and
`_MOST_CELLS` cells a graph bound the work. Only the least loaded members of each equivalence class of units are
searched, as many as a plan can use.

Validity: no plan that an interrupted search left out has a higher objective than `Search.beyond`, which stays at minus
infinity while every question is answered completely, and is the largest possible value where units, codecs or variants
were left out without a bound. Classes that `only` or `sees_all` excludes are bounded by `shortlist_bound`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from maleo_api.egress import may_receive
from maleo_api.mission import Mode
from maleo_api.model import Model, size_of
from maleo_api.placement import MOST_STAGES
from maleo_planner.cost_model.analog import add_writing, find_miss, lower
from maleo_planner.cost_model.codec_cost import count_codecs, find_codec
from maleo_planner.cost_model.compatibility import NO_PEAK, Mismatch, find_mismatch
from maleo_planner.cost_model.load import Load
from maleo_planner.cost_model.preferences import rank
from maleo_planner.cost_model.reconfiguration import add_turn, beside, find_clash
from maleo_planner.cost_model.span_cost import LinkFacts, SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph import partition_graph
from maleo_planner.graph.best_first import Searcher
from maleo_planner.graph.edge_costs import Amount
from maleo_planner.graph.partition_graph import Lattice, Prices
from maleo_planner.graph.query import Way, total
from maleo_planner.graph.tolerances import without_the_widest
from maleo_planner.graph.transfer_costs import Crossing
from maleo_planner.inventory.egress_reach import Reach, find_reach
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Holdings
from maleo_planner.single.candidate import Candidate, Piece, list_parts
from maleo_planner.single.feasibility import find_any
from maleo_planner.single.objective import HIGHEST, MOVE_COST, QUICKEST, Aim, Objective
from maleo_planner.single.rejections import (
    MODES,
    Refused,
    refuse_modes,
    refuse_unavailable,
    refuse_unit,
    refuse_way,
    refuse_whole,
)
from maleo_planner.single.shared_limits import Shared, Sharing
from maleo_planner.throughput.pipeline import cheapest, find_pipeline
from maleo_planner.types.numeric import TIE
from maleo_planner.types.problem import NodeFacts, Plan, Snapshot
from maleo_planner.types.requirements import Demand
from maleo_planner.types.variants import Edition, without_codecs
from maleo_planner.types.work_budget import CALL, Budget

MOST_PARTITIONS: Final = 4
_PER_CLASS: Final = MOST_PARTITIONS
_PATIENCE: Final = 20_000
_SHORT_PATIENCE: Final = 100
_LONG_PATIENCE: Final = 2_000
"""Maximum number of partial paths expanded for each question."""
_MOST_UNITS: Final = 64
_MOST_CELLS: Final = 3_000_000
"""Maximum number of place pairs times boundaries of one lattice: some hundred megabytes in all."""
_LEAST_UNITS: Final = 8
"""Codecs are dropped before the number of units falls below this."""
_JUDGING: Final = 40 * CALL
_KINDS: Final = (("input", True), ("features", False))


class Search:
    """Planning of one mission in one snapshot.

    only: (node, unit) keys that the search is restricted to, besides the input's node and the incumbent, None for all;
    far: with `only`, whether classes more than one hop away count; is_cut_short: whether plans were left out, so that
    one of them may be better; beyond: upper bound on the objective of every plan that an interrupted search left out.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        demand: Demand,
        model: Model,
        source: NodeFacts,
        index: FleetIndex,
        aim: Aim = "margins",
        holdings: Holdings | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.demand = demand
        self.budget = budget or Budget()
        self.model = model
        self.source = source
        self.aim = aim
        self.objective = Objective(demand, aim)
        self.units = index.available
        holdings = holdings or Holdings.of(snapshot, index)
        self.loads = holdings.seen_by(demand.mission)
        self._refused = {refuse_unavailable(unit): None for unit in index.unavailable}
        self.only: frozenset[tuple[str, str]] | None = None  # besides the input's node and the incumbent; None: all
        self.far = False  # with `only`: also classes more than one hop away
        self.held = snapshot.held.get(demand.mission.key)
        self.index = index
        self._most, self._patience = MOST_PARTITIONS, _PATIENCE
        self._codes = aim != "rate"  # whether codecs may be used at cuts
        self._made: list[tuple[Edition, Lattice]] | None = None
        self._energy: tuple[Lattice, Amount] | None = None  # energy costs of the lattice judged last
        self.is_cut_short = False  # whether plans were left out, of which one may be better
        self.beyond = -np.inf  # upper bound of every plan that an interrupted search left out

    def run(self) -> list[Candidate]:
        """Return the best plans of all variants and modes, the incumbent and the best plan over each unit, best first.

        Where nothing is feasible the closest infeasible plans are returned.
        """
        lattices = list(self.lattices())
        found = [c for variant, made in lattices for c in self._survey(variant, made)]
        floor = max((c.objective for c in found if not c.shortfalls), default=-np.inf)
        best = list(self._solve(lattices, strict=True, floor=floor))
        if not best and self.aim == "energy":  # no feasible plan has a known energy: choose by latency
            best = list(self._solve(lattices, strict=True, objective=Objective(self.demand, "latency")))
        found += [candidate for _, candidate in best or self._solve(lattices, strict=False)]
        return _sort(found)

    def run_longer(self) -> tuple[list[Candidate], bool]:
        """Return feasible plans of up to `MOST_STAGES` partitions, best first, and whether an empty result is proven.

        The same plans are feasible for every aim, so codecs are searched for `rate` too. An empty result is proven only
        if no search was interrupted and every unit, or an equally good one, was searched.
        """
        self._most, self._patience, self._codes = MOST_STAGES, _SHORT_PATIENCE, True
        lattices = [(variant, made) for variant, made in self.lattices() if self._is_accurate(variant)]
        finder = Objective(self.demand, "margins" if self.aim == "margins" else "latency")
        found, open_ = list[Candidate](), list[tuple[Edition, Lattice]]()
        for variant, made in lattices:
            if self.budget.is_exhausted:
                break
            searched, is_certain = self._ask(variant, made, finder, _SHORT_PATIENCE)
            found += searched
            if not is_certain:
                open_.append((variant, made))
        is_proven = self._looks_at_all
        for variant, made in open_ if not found else ():
            if self.budget.is_exhausted:
                break
            answer = find_any(
                self._in_time(made),
                self._modes,
                tuple(self.objective.limits(variant, made)),
                self.allows(variant, made, strict=True),
                MOST_STAGES,
                self.budget,
            )
            if answer.way is not None:
                found.append(self.judge(variant, made, answer.way))
            elif not answer.is_proven:
                searched, is_certain = self._ask(variant, made, finder, _LONG_PATIENCE)
                found += searched
                is_proven &= is_certain
        return _sort(c for c in found if not c.shortfalls), is_proven and not self.budget.is_exhausted

    def _ask(
        self, variant: Edition, made: Lattice, objective: Objective, patience: int
    ) -> tuple[list[Candidate], bool]:
        """Return feasible candidates of one lattice, and whether the answer is certain.

        It is certain if each question has a path or provably none.
        """
        made, found, is_certain = self._in_time(made), list[Candidate](), True
        most = min(MOST_STAGES, len({unit.key for unit in made.units}))
        for _, question in objective.questions(variant, made, most=most, strict=True):
            allows = self.allows(variant, made, strict=True)
            searched = Searcher(made, question, self._modes, allows, self.budget).run(patience=patience)
            found += [self.judge(variant, made, way) for _, way in searched.ways]
            is_certain &= bool(searched.ways) or np.isinf(searched.bound)
        return found, is_certain

    def _in_time(self, made: Lattice) -> Lattice:
        """Return the lattice without the steps that by themselves do not sustain the mission's rate."""
        return made.no_slower(1 / self.demand.rate) if self.demand.rate > 0 else made

    def _is_accurate(self, variant: Edition) -> bool:
        """Return True if the variant by itself keeps the Hard accuracy floor."""
        return self.objective.accuracy_shortfall(self.demand.accuracy_of(variant)) <= TIE

    def _leave_out(self) -> None:
        """Record that plans are left out of the search without a bound on their objective."""
        self.is_cut_short = True
        self.beyond = HIGHEST if self.aim == "margins" else np.inf

    @property
    def _looks_at_all(self) -> bool:
        """Return True if every unit, or an equally good one, is searched."""
        return not self.is_cut_short and self.only is None and (self.sees_all or self.far)

    def lattices(self) -> Iterator[tuple[Edition, Lattice]]:
        """Yield the lattice of each variant that some unit can run, and record rejections in `refused`.

        Where an accuracy is asked for, narrower copies follow, each without the analogue units of the next widest
        tolerance.
        """
        members = self._members()
        for variant in self.variants():
            if not self.budget.spend(CALL * (40 + 6 * len(variant.blocks))):
                self._leave_out()
                return
            made = self._build(variant, members)
            if made is not None:
                yield variant, made
            if made is not None and self.demand.accuracy is not None:
                yield from ((variant, narrower) for narrower in without_the_widest(made))

    def best(self, prices: Prices) -> tuple[float, Candidate] | None:
        """Return the maximum of objective less price over feasible plans, with its candidate; None if none is feasible.

        This is the pricing problem of column generation. A fallback is not a step of a plan, so its reservations have
        no price here.
        """
        if self._made is None:
            self._made = list(self.lattices())
        found = [*self._solve(self._made, strict=True, prices=prices), *self._held_again(self._made, prices)]
        return max(found, key=lambda each: each[0], default=None)

    def find(self, plan: Plan) -> Candidate | None:
        """Return the plan as evaluated in this snapshot; None if it is no longer possible or its mode not allowed."""
        variant = self.edition(plan.variant, plan.exit)
        named = [self.index.unit(key) for key in dict.fromkeys((p.node, p.unit) for p in plan.partitions)]
        made = self._build(variant, [unit for unit in named if unit is not None]) if variant else None
        way = made.find(list_parts(plan)) if made else None
        if variant is None or made is None or way is None or not np.isfinite(total(made.tail, made, way)):
            return None
        judged = self.judge(variant, made, way)
        return judged if judged.mode in self.demand.mission.spec.modes else None

    @property
    def refused(self) -> list[Refused]:
        """Return the rejections met so far, without duplicates."""
        return list(self._refused)

    def _note(self, refused: Refused) -> None:
        """Record a rejection once."""
        self._refused.setdefault(refused)

    @property
    def here(self) -> list[UnitFacts]:
        """Return the units of the input's node."""
        return self.index.on(self.source.name)

    @property
    def sees_all(self) -> bool:
        """Return True if the classes are few enough to search them all.

        Otherwise only classes one hop from the input are searched, and `shortlist_bound` bounds the rest.
        """
        return sum(min(len(each.members), _PER_CLASS) for each in self.index.classes) <= _MOST_UNITS

    @property
    def reach(self) -> Reach:
        """Return the classes one hop from the input, what egress lets each receive, and the best hops beyond."""
        egress = self.demand.mission.spec.egress
        return find_reach(self.index, self.source, egress.input, egress.features)

    def obstacle(self, variant: Edition, unit: UnitFacts) -> Mismatch | None:
        """Return why the unit cannot run this variant next to the reservations of others; None if it can."""
        return (
            self.mismatch(variant, unit)
            or find_miss(self.demand, variant, unit)
            or find_clash(variant, unit, self.loads[unit.key])
        )

    def mismatch(self, variant: Edition, unit: UnitFacts) -> Mismatch | None:
        """Return why the unit cannot run this variant, regardless of reservations; equal for a whole class."""
        key = ("mismatch", self.model.key, variant.label, unit.profile, unit.power_mode, unit.unit.name)
        if key not in self.index.memo:
            mismatch = find_mismatch(variant, unit)
            if mismatch is not None and mismatch.code in NO_PEAK and self.index.costs(self.model, variant, unit):
                mismatch = None  # a measurement replaces a missing peak
            self.index.memo[key] = mismatch
        found: Mismatch | None = self.index.memo[key]
        return found

    def cap_of(self, unit: tuple[str, str]) -> float | None:
        """Return the power cap of the unit's node in watts; None if there is no cap."""
        found = self.index.unit(unit)
        return found.cap if found is not None else None

    def memory_of(self, unit: tuple[str, str]) -> float:
        """Return the memory of the unit in bytes; infinite if unlimited or unknown."""
        found = self.index.unit(unit)
        return np.inf if found is None or found.memory is None else found.memory

    def variants(self) -> list[Edition]:
        """Return the runnable variants of the model, each with each exit, that the mission allows."""
        wanted = self.demand.mission.spec.model.variants
        return [v for v in self.index.editions(self.model) if not wanted or v.name in wanted]

    def edition(self, variant: str, exit_: str) -> Edition | None:
        """Return the variant with this exit; None if it does not exist or the mission does not allow it."""
        return next((v for v in self.variants() if (v.name, v.exit) == (variant, exit_)), None)

    def costs(self, variant: Edition, unit: UnitFacts) -> SpanCosts | None:
        """Return the span costs of the variant on the unit, with writing and reconfiguration; None if unknown."""
        costs = self.index.costs(self.model, variant, unit)
        return costs and add_turn(add_writing(costs, self.demand, unit), variant, unit, self.loads[unit.key])

    def load(self, variant: Edition, unit: UnitFacts) -> Load:
        """Return the reservations of others on the unit, with the reconfiguration that this variant causes them."""
        return beside(variant, unit, self.loads[unit.key])

    def link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        """Return the link between two nodes; None where none joins them."""
        return self.index.link(source, target)

    def processor(self, node: NodeFacts) -> UnitFacts | None:
        """Return the node's own processor, which runs codecs; None where no profile states it."""
        return self.index.processor(node)

    def mode_of(self, chain: Sequence[UnitFacts]) -> Mode:
        """Return the mode of a plan over these units: `Local` if all are on the input's node, `Remote` if none is."""
        here = [unit.node.name == self.source.name for unit in chain]
        return "Local" if all(here) else "Split" if any(here) else "Remote"

    # ------------------------------------------------------------------------------------------------ structure

    def alike(self, units: Iterable[UnitFacts]) -> list[list[UnitFacts]]:
        """Return the equivalence classes of the units, members sorted by key.

        Units of the input's node and of the incumbent's nodes are equivalent only to units of the same node.
        """
        named = {self.source.name, *(p.node for p in (self.held.partitions if self.held else ()))}
        classes: dict[tuple[object, ...], list[UnitFacts]] = {}
        for unit in units:
            own = unit.node.name if unit.node.name in named else ""
            key = (own, *self.index.classes.key(unit), unit.available, self.loads[unit.key])
            classes.setdefault(key, []).append(unit)
        return [sorted(members, key=lambda u: u.key) for members in classes.values()]

    def _members(self) -> list[UnitFacts]:
        """Return the units to search: the least loaded members of each class, as many as a plan can use.

        All units of the input's node and of the incumbent are included.
        """
        held = [(p.node, p.unit) for p in self.held.partitions] if self.held else []
        most = MOST_STAGES if self.aim == "rate" else self._most
        chosen = {unit.key: unit for unit in self.index.on(self.source.name)}
        chosen |= {key: unit for key in held if (unit := self.index.unit(key)) is not None}
        here = Counter(id(self.index.classes.of(unit)) for unit in chosen.values())
        for each in (
            self.index.classes if self.sees_all or self.far else (target.units for target in self.reach.targets)
        ):
            # Members that are included anyway must not use up the places of the least loaded ones.
            chosen |= {unit.key: unit for unit in self.loads.front(each, most + here[id(each)])}
        if self.only is None:
            return list(chosen.values())
        return [unit for key, unit in chosen.items() if key in self.only or key in held or key[0] == self.source.name]

    def _build(self, variant: Edition, members: Sequence[UnitFacts]) -> Lattice | None:
        """Return the lattice of the variant over the usable members and record rejections; None if none is usable."""
        usable = []
        for unit in members:
            found = self.obstacle(variant, unit)
            if found is None:
                usable.append(unit)
            else:
                self._note(refuse_unit(variant, unit, found))
        if not usable:
            return None
        usable, coded = self._shrink(variant, usable)
        costs = [cost for unit in usable if (cost := self.costs(variant, unit)) is not None]
        made = partition_graph.build(
            variant if coded else without_codecs(variant),
            usable,
            costs,
            [self.load(variant, unit) for unit in usable],
            Crossing(
                link=self.index.link,
                input_bytes=size_of(self.model.spec.inputs),
                answer_bytes=size_of(self.model.spec.outputs),
                may_receive=self._may_receive,
                processor=self.index.processor,
                loss=lambda block, codec: self.demand.loss(
                    variant, block, find_codec(variant, block, codec) if codec else None
                ),
                taken=self.taken,
            ),
            source=self.source,
            z=self.demand.z,
            rate=self.demand.rate,
        )
        for refused in self._find_refusals(variant, made):
            self._note(refused)
        return made

    def _shrink(self, variant: Edition, units: list[UnitFacts]) -> tuple[list[UnitFacts], bool]:
        """Return the units to search and whether codecs are searched: all, unless the lattice would be too large.

        Codecs are dropped before units. Units of the input's node and of the incumbent are kept first, then the
        fastest.
        """
        boundaries = len(partition_graph.find_ends(variant))
        places = int(np.sqrt(_MOST_CELLS / boundaries))
        codecs = count_codecs(variant) if self._codes else 0
        if codecs and places // (1 + codecs) < min(_LEAST_UNITS, len(units)):
            codecs = 0
            self._leave_out()
        most = places // (1 + codecs)
        self.budget.spend(10.0 * boundaries * min(places, len(units) * (1 + codecs)) ** 2)
        if len(units) > most:
            self._leave_out()
            held = {(p.node, p.unit) for p in self.held.partitions} if self.held else set[tuple[str, str]]()

            def rank_unit(unit: UnitFacts) -> tuple[bool, float, tuple[str, str]]:
                costs = self.costs(variant, unit)
                seconds = costs.at(0, len(variant.blocks) - 1).mean if costs else np.inf
                return unit.node.name != self.source.name and unit.key not in held, seconds, unit.key

            kept = {unit.key for unit in sorted(units, key=rank_unit)[:most]}
            units = [unit for unit in units if unit.key in kept]
        return units, codecs > 0

    def _find_refusals(self, variant: Edition, made: Lattice) -> Iterator[Refused]:
        """Yield the rejections of modes, of connections and of the whole variant on each unit."""
        yield from refuse_modes(variant, made, self.demand.mission.spec.modes)
        for place, unit in enumerate(made.units):
            if made.codecs[place]:
                continue  # another place of a unit that was checked already
            if not made.local[place]:
                barred = [kind for kind, raw in _KINDS if not self._may_receive(unit.node, raw)]
                joined = self.link(self.source, unit.node) is not None
                yield from refuse_way(variant, unit, self.source.name, barred=barred, joined=joined)
            yield from refuse_whole(variant, made, place, self.load(variant, unit), self.demand.rate)

    def taken(self, origin: NodeFacts, target: NodeFacts) -> float:
        """Return the share of the link's time between two nodes that others have reserved."""
        wire = self.index.wire(origin, target) if self.loads.holdings.cross else None
        return self.loads.taken(wire) if wire is not None else 0.0

    def _may_receive(self, node: NodeFacts, raw: bool) -> bool:
        """Return True if the mission's egress rule lets the node receive raw input or, if not `raw`, features."""
        egress = self.demand.mission.spec.egress
        return may_receive(egress.input if raw else egress.features, self.source, node)

    # ------------------------------------------------------------------------------------------------ judgement

    def _solve(
        self,
        lattices: Iterable[tuple[Edition, Lattice]],
        *,
        strict: bool,
        floor: float = -np.inf,
        prices: Prices | None = None,
        objective: Objective | None = None,
    ) -> Iterator[tuple[float, Candidate]]:
        """Yield (objective less price, candidate) of the best path of each question and of its equals.

        strict: only paths that keep all limits and reach the `floor`, which rises with each find; else the closest
        infeasible paths. objective: what the search minimises, if not the mission's own. The incumbent is evaluated
        elsewhere, so every path here bears the cost of a move.
        """
        leaving = self._move_cost if self.held is not None else 0.0
        for variant, full in lattices:
            if strict and not self._is_accurate(variant):
                continue
            if self.budget.is_exhausted:
                self._leave_out()
                return
            made = self._in_time(full) if strict else full
            if self.aim == "rate":
                yield from ((c.objective, c) for c in self._solve_rate(variant, made, strict=strict))
                continue
            price = made.price(prices) if prices is not None else None
            searched_by = objective or self.objective
            questions = searched_by.questions(variant, made, most=self._most, strict=strict, price=price)
            for ceiling, question in questions:
                under = ceiling - leaving - floor + TIE if strict else np.inf
                allows = self.allows(variant, made, strict=strict)
                searcher = Searcher(made, question, self._modes, allows, self.budget)
                found = searcher.run(under=under, patience=self._patience)
                if objective is None and found.bound < (found.ways[0][0] if found.ways else np.inf):
                    self.beyond = max(self.beyond, ceiling - leaving - found.bound)
                for _, way in found.ways:
                    candidate = self.judge(variant, made, way)
                    net = candidate.objective - (total(price, made, way) if price is not None else 0.0)
                    floor = floor if candidate.shortfalls else max(floor, net)
                    yield net, candidate

    def _solve_rate(self, variant: Edition, made: Lattice, *, strict: bool) -> Iterator[Candidate]:
        """Yield the pipeline of the highest rate in each mode, and equally fast ones of the least energy and latency.

        If not `strict`: the pipeline of the highest rate, and the closest infeasible paths.
        """
        limits = tuple(self.objective.limits(variant, made)) if strict else ()
        shared = self._shared_seconds(variant, made)
        for mode in self._modes:
            if self.budget.is_exhausted:
                self._leave_out()
                return
            best = find_pipeline(made, mode, limits, MOST_STAGES, shared, self.budget)
            self.beyond = max(self.beyond, 1 / max(best.bound, QUICKEST))
            if best.way is None:
                continue
            costs = (self.objective.energy(made), made.tail) if strict else ()
            equals = [
                cheapest(made, mode, cost, limits, best.seconds, MOST_STAGES, shared, self.budget).ways
                for cost in costs
            ]
            for way in [best.way, *(way for ways in equals for _, way in ways)]:
                yield self.judge(variant, made, way)
        least_bad = self.objective.questions(variant, made, most=MOST_PARTITIONS, strict=False)
        for _, question in () if strict else least_bad:
            allows = self.allows(variant, made, strict=False)
            found = Searcher(made, question, self._modes, allows, self.budget).run()
            yield from (self.judge(variant, made, way) for _, way in found.ways)

    def _shared_seconds(self, variant: Edition, made: Lattice) -> Callable[[Way], float]:
        """Return a function of a path: seconds on a link that it crosses repeatedly; infinite over a power cap."""
        sharing = self._sharing(variant, made)

        def measure(way: Way) -> float:
            shared = sharing.measure(way) if len(way) > 1 else Shared()
            return shared.wire if shared.power <= TIE else np.inf

        return measure

    def _held_again(
        self, lattices: Iterable[tuple[Edition, Lattice]], prices: Prices
    ) -> Iterator[tuple[float, Candidate]]:
        """Yield the incumbent, if feasible, at its objective without a move cost, less its price."""
        for variant, made in lattices:
            held = self._held_way(variant, made)
            again = self.judge(variant, made, held) if held else None
            if held is not None and again is not None and not again.shortfalls:
                yield again.objective - total(made.price(prices), made, held), again

    @property
    def _move_cost(self) -> float:
        """Return the cost of a move in units of the objective; zero where these are seconds, joules or requests/s."""
        return MOVE_COST if self.aim == "margins" else 0.0

    @property
    def _modes(self) -> list[Mode]:
        """Return the modes that the mission allows."""
        return [mode for mode in MODES if mode in self.demand.mission.spec.modes]

    def judge(self, variant: Edition, made: Lattice, way: Way) -> Candidate:
        """Return the candidate of a path with exact figures: clipped margins, violations of Hard limits, and moves."""
        demand, figures = self.demand, {n: total(getattr(made, n), made, way) for n in ("mean", "tail")}
        if self._energy is None or self._energy[0] is not made:
            self._energy = made, self.objective.energy(made)
        energy = total(self._energy[1], made, way)
        shared = self._sharing(variant, made).measure(way)
        busy = max(total(made.busy, made, way, peak=True), shared.wire)
        accuracy = lower(demand.accuracy_of(variant), [made.units[place] for place, _ in way])
        margins, shortfalls = self.objective.measure(
            latency=figures["tail"], energy=energy, accuracy=accuracy, loss=total(made.loss, made, way)
        )
        pieces = tuple(Piece(*piece) for piece in made.pieces(way))
        shortfalls["rate"] = demand.rate * busy - 1
        shortfalls["power"] = shared.power
        moves = self._moves(variant, pieces)
        terms = self.objective.terms(margins, figures, energy, busy)
        terms |= {"move": -self._move_cost} if moves and self._move_cost else {}
        objective = sum(terms.values())
        return Candidate(
            variant=variant,
            mode=self.mode_of([piece.unit for piece in pieces]),
            pieces=pieces,
            objective=objective,
            shortfalls={name: short for name, short in shortfalls.items() if short > TIE},
            latency=figures["tail"],
            energy=energy,
            moves=moves,
            preferred=rank(demand.mission.spec.preference, [piece.unit for piece in pieces]),
            terms=terms,
        )

    def allows(self, variant: Edition, made: Lattice, *, strict: bool) -> Callable[[Way], bool]:
        """Return a predicate for complete and partial paths: whether limits shared by several steps are kept.

        If not `strict` only the power cap is checked, which even the closest infeasible plan keeps.
        """

        sharing = self._sharing(variant, made)

        def keeps(way: Way) -> bool:
            if len(way) < 2:  # noqa: PLR2004 - the lattice keeps the limits of a single step
                return True
            shared = sharing.measure(way)
            return shared.power <= TIE and (not strict or self.demand.rate * shared.wire <= 1 + TIE)

        return keeps

    def _sharing(self, variant: Edition, made: Lattice) -> Sharing:
        """Return the limits that steps of the lattice's paths share."""
        return Sharing(self.index, self.loads, self.model, variant, made, self.source, self.demand.rate)

    def _moves(self, variant: Edition, pieces: Sequence[Piece]) -> int:
        """Return 1 if the plan differs from the incumbent, else 0; 0 without an incumbent."""
        held = self.held
        if held is None:
            return 0
        same = [(*p.unit.key, p.last, p.codec) for p in pieces]
        return int((held.variant, held.exit) != (variant.name, variant.exit) or list_parts(held) != same)

    # ------------------------------------------------------------------------------------------------ surveying

    def _survey(self, variant: Edition, made: Lattice) -> Iterable[Candidate]:
        """Yield the incumbent and, for each unit, its best plans alone and after a first partition on the input's node.

        The explanation names the best plan over each unit; the best of them is the first lower bound of the search.
        """
        held = self._held_way(variant, made)
        ways = [held] if held is not None else []
        modes = self.demand.mission.spec.modes
        _, question = next(iter(self.objective.questions(variant, made, most=MOST_PARTITIONS, strict=False)))
        for unit in range(len(made.units)):
            alone: Way = ((unit, made.last),)
            mode: Mode = "Local" if made.local[unit] else "Remote"
            if mode in modes:
                ways.append(alone)
            if "Split" in modes and not made.local[unit]:
                ways += _best_splits(made, question.cost, unit)
        for way in ways:
            if not self.budget.spend(_JUDGING):
                self._leave_out()
                return
            if np.isfinite(total(made.tail, made, way)):
                yield self.judge(variant, made, way)

    def _held_way(self, variant: Edition, made: Lattice) -> Way | None:
        """Return the path of the incumbent; None if it is no longer possible or its mode not allowed."""
        held = self.held
        if held is None or (held.variant, held.exit) != (variant.name, variant.exit):
            return None
        way = made.find(list_parts(held)) if held.mode in self.demand.mission.spec.modes else None
        return way if way is not None and np.isfinite(total(made.tail, made, way)) else None


def _best_splits(made: Lattice, cost: Amount, unit: int) -> list[Way]:
    """Return, for each unit of the input's node, the path with the cheapest cut between that unit and `unit`."""
    found: list[Way] = []
    for here in np.flatnonzero(made.local):
        first = cost.hops[made.source, here, 0] + cost.row(0)[here]
        whole = first + cost.hops[here, unit, :] + cost.column(unit, made.last)
        possible = made.frame.ends(0)[here] & made.frame.ends_of(unit)[:, made.last]
        whole = np.where(possible, whole, np.inf)
        cut = int(np.argmin(whole))
        if np.isfinite(whole[cut]):
            found.append(((int(here), cut), (unit, made.last)))
    return found


def _sort(found: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates without duplicates, best first."""
    return sorted({_identity(c): c for c in reversed(list(found))}.values(), key=lambda candidate: candidate.order)


def _identity(candidate: Candidate) -> tuple[object, ...]:
    """Return what makes two candidates the same plan: variant, units, cuts and codecs."""
    return candidate.variant.label, tuple((p.unit.key, p.last, p.codec) for p in candidate.pieces)
