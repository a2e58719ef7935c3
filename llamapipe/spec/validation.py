"""What is wrong with a spec, all of it at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING

from llamapipe.errors import Problem, SpecError
from llamapipe.operator import Manifest, PortKind
from llamapipe.spec.findings import Findings
from llamapipe.spec.graph import split_selector
from llamapipe.spec.knob_values import knob_problem
from llamapipe.spec.knobs import knob_names
from llamapipe.spec.model import OpSpec, PipelineSpec, SinkSpec
from llamapipe.spec.names import NAME_RULE, did_you_mean, is_name, nearest, short_type
from llamapipe.spec.reader import Location
from llamapipe.spec.resolve import SinkLike, resolve_types
from llamapipe.spec.slo_text import slo_problem
from llamapipe.spec.when import Atom, parse_when

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["validate"]


def validate(
    spec: PipelineSpec,
    manifests: Mapping[str, Manifest],
    sinks: Mapping[str, SinkLike],
    *,
    locations: Mapping[Location, str] | None = None,
    unread: Collection[Location] = (),
) -> list[Problem]:
    """Everything wrong with the spec; an empty list means that it can be compiled.

    ``manifests`` and ``sinks`` are by full type; short types in the spec are understood. ``locations`` (of `Loaded`)
    makes a problem name its file and line, else it names the stage. ``unread`` (of `Loaded`) are parts that hold a
    stand-in: nothing is said of them, nor of what only follows from them.
    """
    return _Validation(resolve_types(spec, manifests, sinks), manifests, sinks, locations or {}, unread).run()


class _Validation(Findings):
    def __init__(
        self,
        spec: PipelineSpec,
        manifests: Mapping[str, Manifest],
        sinks: Mapping[str, SinkLike],
        locations: Mapping[Location, str],
        unread: Collection[Location],
    ) -> None:
        super().__init__(spec, locations)
        self._unread = frozenset(unread)
        # Whether every stage's name, and every stage's and sink's inputs, are known.
        self._all_named = not any(at == ("ops",) or (at[0] == "ops" and at[2:] == ("name",)) for at in self._unread)
        self._all_wired = self._all_named and not any(
            at == ("sinks",) or at[2:3] in (("inputs",), ("when",)) for at in self._unread
        )
        self._types = manifests
        self._sink_types = sinks
        # The first stage of a name is the one that selectors mean; a second is a problem of its own.
        self._ops = {op.name: op for op in reversed(spec.ops)}
        self._manifests = {name: manifests[op.type] for name, op in self._ops.items() if op.type in manifests}

    def run(self) -> list[Problem]:
        self._pipeline()
        for i, op in enumerate(self.spec.ops):
            self._stage(i, op)
        for i, sink in enumerate(self.spec.sinks):
            self._sink(i, sink)
        graph = self._graph()
        cycles = self._cycles(graph)
        self._unreachable(graph)
        if not cycles:
            self._joins(graph)
        return self.in_order()

    # the parts

    def _pipeline(self) -> None:
        if not is_name(self.spec.name) and ("name",) not in self._unread:
            self._say("bad-name", f"pipeline name: expected {NAME_RULE}, got {self.spec.name!r}", ("name",))
        if not self.spec.ops and ("ops",) not in self._unread:
            self._say("empty", "expected at least one stage in ops, got none", ("ops",), "see: llamapipe init")
        if self.spec.slo is not None:
            problem = slo_problem(self.spec.slo)
            if problem is not None:
                self._say("slo", f"slo: {problem}", ("slo",))
        for what, names in (
            ("ops", [op.name for op in self.spec.ops]),
            ("sinks", [sink.name for sink in self.spec.sinks]),
        ):
            label = "stage" if what == "ops" else "sink"
            for i, name in enumerate(names):
                if (what, i, "name") in self._unread or ((what, i, "type") in self._unread and name == f"{what}[{i}]"):
                    continue
                if not is_name(name):
                    self._say("bad-name", f"{label} name: expected {NAME_RULE}, got {name!r}", (what, i, "name"))
                if name in names[:i]:
                    first = self._where((what, names.index(name), "name"))
                    message = f"{label} name {name!r} is taken" + (f", first at {first}" if first else "")
                    self._say("duplicate-name", message, (what, i, "name"), "give one of them another name")

    def _stage(self, i: int, op: OpSpec) -> None:
        place: Location = ("ops", i)
        manifest = self._types.get(op.type)
        if manifest is None:
            if (*place, "type") not in self._unread:
                hint = _type_hint(op.type, self._types, "see: llamapipe ops list")
                self._say("unknown-operator", f"stage {op.name}: unknown operator {op.type!r}", (*place, "type"), hint)
            for port, selectors in op.inputs.items():
                for selector in selectors:
                    self._output(selector, f"stage {op.name}", (*place, "inputs", port))
        else:
            self._inputs(place, op, manifest)
            self._params(place, op, manifest)
        if op.when is not None:
            self._when(place, op, op.when, manifest)

    def _inputs(self, place: Location, op: OpSpec, manifest: Manifest) -> None:
        misspelt = set()
        for port, selectors in op.inputs.items():
            at = (*place, "inputs", port)
            expected = manifest.inputs.get(port)
            if expected is None:
                misspelt.add(nearest(port, manifest.inputs))
                hint = did_you_mean(port, manifest.inputs)
                self._say("unknown-port", f"stage {op.name}: {op.type} has no input {port!r}", at, hint)
            elif len(selectors) > 1 and not expected.many:
                message = f"stage {op.name}: input {port} takes one output, got {len(selectors)}"
                self._say("too-many-inputs", message, at, "merge them in a stage before, or use two stages")
            for selector in selectors:
                kind = self._output(selector, f"stage {op.name}: input {port}", at)
                if kind is not None and expected is not None and not expected.kind.accepts(kind):
                    message = f"stage {op.name}: input {port} expects {expected.kind}, got {kind} from {selector}"
                    self._say("port-kind", message, at, self._kind_hint(selector, expected.kind))
        unread = any(at[:3] == (*place, "inputs") for at in self._unread)
        for port, declared in manifest.inputs.items():
            if unread:
                break  # it may have been what could not be read
            if not declared.optional and not op.inputs.get(port) and port not in misspelt:
                message = f"stage {op.name}: expected {declared.kind} on input {port}, got none"
                example = f"$source.{port}" if declared.kind is PortKind.FRAMES else f"$ops.STAGE.{port}"
                self._say("missing-input", message, (*place, "inputs"), f"write: inputs: {{{port}: {example}}}")

    def _params(self, place: Location, op: OpSpec, manifest: Manifest) -> None:
        knobs = knob_names(manifest)
        known = [*manifest.params, *knobs]
        misspelt = set()
        for key, value in op.params.items():
            at = (*place, key)
            if at in self._unread and (key in manifest.params or key in knobs):
                continue
            if key in manifest.params:
                problem = manifest.params[key].problem(value)
                if problem is not None:
                    self._say("param", f"stage {op.name}: {key}: {problem}", at)
            elif key in knobs:
                problem = knob_problem(key, value)
                if problem is not None:
                    self._say("knob", f"stage {op.name}: {key}: {problem}", at)
                elif key == "sample_fps" and value is not None:
                    self._sampled(op, manifest, at)
            else:
                choices = [*known, "inputs", "when"]
                misspelt.add(nearest(key, choices))
                hint = did_you_mean(key, choices, f"known: {', '.join(known)}" if len(known) < 16 else None)
                self._say("unknown-key", f"stage {op.name}: {op.type} has no {key!r}", at, hint)
        for key, param in manifest.params.items():
            if param.required and key not in op.params and key not in misspelt:
                message = f"stage {op.name}: expected {key} ({param.type.__name__}), got none"
                self._say("missing-param", message, place, param.doc or None)

    def _sampled(self, op: OpSpec, manifest: Manifest, at: Location) -> None:
        hint = "put sample_fps on a stage that gives boxes or events"
        if manifest.hides:
            message = f"stage {op.name}: {op.type} hides something and must see every frame, got sample_fps"
            self._say("hiding", message, at, hint)
        elif any(port.kind is PortKind.FRAMES for port in manifest.outputs.values()):
            # Frames in between are given what the last one got, and its pictures are gone by then.
            message = f"stage {op.name}: {op.type} gives pictures and must work on every frame, got sample_fps"
            self._say("knob", message, at, hint)

    def _when(self, place: Location, op: OpSpec, text: str, manifest: Manifest | None) -> None:
        at = (*place, "when")
        if manifest is not None and manifest.hides:
            message = f"stage {op.name}: {op.type} hides something and must see every frame, got when"
            self._say("hiding", message, at, "remove when; put it on a stage that finds what is to be hidden")
        try:
            atoms = _atoms(text)
        except SpecError as error:
            for problem in error.problems:
                self._say(problem.code, f"stage {op.name}: {problem.message}", at, problem.hint)
            return
        for atom in atoms:
            kind = self._output(atom.selector, f"stage {op.name}: when", at)
            if kind is PortKind.FRAMES and (atom.labels or atom.function == "max_score"):
                message = f"stage {op.name}: when: expected boxes or events in {atom.key!r}, got {kind}"
                self._say("port-kind", message, at, self._kind_hint(atom.selector, PortKind.BOXES))
            producer = self._ops.get(atom.stage)
            named = producer.params.get("labels") if producer is not None else None
            if producer is not None and ("ops", self._index(producer.name), "labels") in self._unread:
                continue
            if isinstance(named, list) and named:
                for label in sorted(atom.labels - {str(name) for name in named}):
                    known = [str(name) for name in named]
                    message = f"stage {op.name}: when: stage {atom.stage} never gives the label {label!r}"
                    self._say("unknown-label", message, at, did_you_mean(label, known))

    def _sink(self, i: int, sink: SinkSpec) -> None:
        place: Location = ("sinks", i)
        like = self._sink_types.get(sink.type)
        label = f"sink {sink.name}"
        if like is None and (*place, "type") not in self._unread:
            hint = _type_hint(sink.type, self._sink_types)
            self._say("unknown-sink", f"{label}: unknown sink {sink.type!r}", (*place, "type"), hint)
        if not sink.inputs and (*place, "inputs") not in self._unread:
            self._say("missing-input", f"{label}: expected an input, got none", (*place, "inputs"))
        for selector in sink.inputs:
            kind = self._output(selector, label, (*place, "inputs"))
            if kind is None or like is None:
                continue
            if not any(PortKind(taken).accepts(kind) for taken in like.accepts):
                expected = " or ".join(sorted(like.accepts))
                message = f"{label}: expects {expected}, got {kind} from {selector}"
                self._say("port-kind", message, (*place, "inputs"))
        if like is None:
            return
        self._path(i, sink, like)
        if not ({(*place, "path"), (*place, "inputs")} & self._unread):
            problem = like.problem(len(sink.inputs), sink.path)
            if problem is not None:
                self._say("sink", f"{label}: {problem}", place)
        for key, value in sink.params.items():
            if key not in like.params:
                hint = did_you_mean(key, [*like.params, "path", "input", "name"])
                self._say("unknown-key", f"{label}: {sink.type} has no {key!r}", (*place, key), hint)
                continue
            problem = like.params[key].problem(value)
            if problem is not None and (*place, key) not in self._unread:
                self._say("param", f"{label}: {key}: {problem}", (*place, key))
        for key, param in like.params.items():
            if param.required and key not in sink.params:
                message = f"{label}: expected {key} ({param.type.__name__}), got none"
                self._say("missing-param", message, place, param.doc or None)

    def _path(self, i: int, sink: SinkSpec, like: SinkLike) -> None:
        at = ("sinks", i, "path")
        if at in self._unread:
            return
        if sink.path is not None and like.default_path is None:
            self._say("path", f"sink {sink.name}: {like.type} writes no file, got path {sink.path!r}", at)
            return
        path = sink.path or like.default_path
        if path is None:
            return
        if ".." in PurePath(path).parts:
            message = f"sink {sink.name}: expected a path in the output folder, got {path!r}"
            self._say("path", message, at, 'leave out the ".."')
        for j, other in enumerate(self.spec.sinks[:i]):
            if ("sinks", j, "path") in self._unread:
                continue
            known = self._sink_types.get(other.type)
            taken = other.path or (known.default_path if known is not None else None)
            if taken is not None and PurePath(taken) == PurePath(path):
                message = f"sink {sink.name}: {path!r} is written by sink {other.name} already"
                self._say("path", message, at, "give it another path")
                return

    # the graph

    def _output(self, selector: str, what: str, at: Location) -> PortKind | None:
        """The kind of what a selector names; None (with a problem where it is new) where that is unknown."""
        try:
            stage, port = split_selector(selector)
        except SpecError:
            hint = did_you_mean(selector, self._selectors())
            message = f"{what}: expected $source.frames or $ops.STAGE.PORT, got {selector!r}"
            self._say("selector", message, at, hint)
            return None
        if not stage:
            if port == "frames":
                return PortKind.FRAMES
            self._say("unknown-port", f"{what}: the source has no output {port!r}", at, "did you mean $source.frames?")
            return None
        if stage not in self._ops and not self._all_named:
            return None  # it may be the one that could not be read
        if stage not in self._ops:
            hint = did_you_mean(stage, self._ops)
            self._say("unknown-stage", f"{what}: unknown stage {stage!r} in {selector}", at, hint)
            return None
        manifest = self._manifests.get(stage)
        if manifest is None:
            return None
        if port not in manifest.outputs:
            hint = did_you_mean(port, manifest.outputs)
            self._say("unknown-port", f"{what}: stage {stage} has no output {port!r}", at, hint)
            return None
        return manifest.outputs[port].kind

    def _selectors(self) -> list[str]:
        return [
            "$source.frames",
            *(f"$ops.{name}.{port}" for name, manifest in self._manifests.items() for port in manifest.outputs),
        ]

    def _kind_hint(self, selector: str, wanted: PortKind) -> str | None:
        """Another output of the same stage that would fit."""
        stage, _ = split_selector(selector)
        outputs = self._manifests[stage].outputs if stage in self._manifests else {}
        fitting = [f"$ops.{stage}.{port}" for port, spec in outputs.items() if wanted.accepts(spec.kind)]
        return f"did you mean {fitting[0]}?" if fitting else None

    def _edges(self, op: OpSpec) -> Iterator[tuple[str, str]]:
        """(stage, port) of every known output that a stage reads, its condition's included."""
        selectors = [selector for found in op.inputs.values() for selector in found]
        if op.when is not None:
            with suppress(SpecError):
                selectors += [atom.selector for atom in _atoms(op.when)]
        yield from self._known(selectors)

    def _known(self, selectors: list[str] | tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for selector in selectors:
            try:
                stage, port = split_selector(selector)
            except SpecError:
                continue
            if stage in self._ops:
                yield stage, port

    def _graph(self) -> nx.DiGraph[str]:
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self._ops)
        for op in self.spec.ops:
            graph.add_edges_from((stage, op.name) for stage, _ in self._edges(op))
        return graph

    def _cycles(self, graph: nx.DiGraph[str]) -> bool:
        import networkx as nx

        found = False
        for component in nx.strongly_connected_components(graph):
            inside = graph.subgraph(component)
            if inside.number_of_edges() == 0:
                continue
            found = True
            start = min(component, key=lambda name: self._index(name))
            cycle = [edge[0] for edge in nx.find_cycle(inside, start)]
            message = f"stages feed each other in a circle: {' > '.join([*cycle, cycle[0]])}"
            self._say("cycle", message, ("ops", self._index(cycle[0]), "inputs"), "take one of these inputs away")
        return found

    def _unreachable(self, graph: nx.DiGraph[str]) -> None:
        import networkx as nx

        if not self.spec.sinks:
            return  # the run adds one that takes everything
        if not self._all_wired:
            return  # the way to the sink may lead through what could not be read
        if any(problem.code in ("selector", "unknown-stage", "when") for problem in self.problems):
            return  # the way to the sink may only be misspelt
        ends = {stage for sink in self.spec.sinks for stage, _ in self._known(sink.inputs)}
        ends |= {name for name, manifest in self._manifests.items() if not manifest.outputs}
        used = set(ends).union(*(nx.ancestors(graph, end) for end in ends))
        for i, op in enumerate(self.spec.ops):
            if op.name not in used:
                message = f"stage {op.name}: nothing of it reaches a sink"
                self._say("unreachable", message, ("ops", i), "read it in a sink, or remove the stage")

    def _joins(self, graph: nx.DiGraph[str]) -> None:
        """Refuse what does not pair up: crops of two stages one by one, and crops where one picture is taken."""
        import networkx as nx

        given: dict[str, str] = {}  # stage -> fan-out stage whose items it gives, "" for one item a frame
        for name in nx.topological_sort(graph):
            op, manifest = self._ops[name], self._manifests.get(name)
            if manifest is None:
                continue
            first = next(self._known(op.inputs.get(manifest.frames_input or "", ())), None)
            level = given.get(first[0], "") if first is not None else ""
            given[name] = name if manifest.fan_out else level
            if (
                manifest.can_skip_still
                and op.params.get("skip_still")
                and (level or not op.inputs.get(manifest.frames_input or ""))
            ):
                self._skips_still(op, level)
            for port, selectors in op.inputs.items():
                for stage, output in self._known(selectors):
                    found = given.get(stage, "")
                    if not found or found == level:
                        continue
                    at = ("ops", self._index(name), "inputs", port)
                    got = f"got $ops.{stage}.{output}, one for each crop of {found}"
                    if level:
                        message = f"stage {name}: input {port} expects one for each crop of {level}, {got}"
                        self._say("join", message, at, "join them in a stage that takes whole frames")
                    elif port in manifest.inputs and manifest.inputs[port].kind is PortKind.FRAMES:
                        message = f"stage {name}: input {port} expects one picture a frame, {got}"
                        self._say("join", message, at)
        for i, sink in enumerate(self.spec.sinks):
            for stage, output in self._known(sink.inputs):
                outputs = self._manifests[stage].outputs if stage in self._manifests else {}
                if given.get(stage) and output in outputs and outputs[output].kind is PortKind.FRAMES:
                    got = f"got $ops.{stage}.{output}, one for each crop of {given[stage]}"
                    message = f"sink {sink.name}: expects one picture a frame, {got}"
                    self._say("join", message, ("sinks", i, "inputs"), "give it whole frames")

    def _skips_still(self, op: OpSpec, level: str) -> None:
        """Motion is looked for in whole frames, one after the other."""
        got = f"crops of {level}" if level else "no pictures"
        at = ("ops", self._index(op.name), "skip_still")
        message = f"stage {op.name}: skip_still: expected whole frames to look for motion in, got {got}"
        self._say("knob", message, at, "put it on a stage that looks at whole frames")


def _atoms(text: str) -> tuple[Atom, ...]:
    return parse_when(text).atoms


def _type_hint(text: str, known: Mapping[str, object], otherwise: str | None = None) -> str | None:
    """The type that was probably meant, whether or not it was written in full."""
    by_short = {short_type(type): type for type in known}
    likely = nearest(text, known) if "/" in text else nearest(text, by_short)
    if likely is None:
        likely = nearest(short_type(text), by_short)
    if likely is not None:
        return f"did you mean {likely}?"
    return otherwise or (f"known: {', '.join(by_short)}" if by_short else None)
