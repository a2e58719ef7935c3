"""Problems found in a spec, each with the place where the part in question stands."""

from __future__ import annotations

from collections.abc import Mapping

from llamapipe.errors import Problem
from llamapipe.spec.model import FIRST_PORT, PipelineSpec
from llamapipe.spec.reader import Location
from llamapipe.spec.yaml_tree import in_file_order

__all__ = ["Findings"]


class Findings:
    """Collects problems of one spec. ``locations`` may be empty: then the stage is named instead of a line."""

    def __init__(self, spec: PipelineSpec, locations: Mapping[Location, str]) -> None:
        self.spec = spec
        self.problems: list[Problem] = []
        self._locations = locations

    def in_order(self) -> list[Problem]:
        """Problems in the order of the files that they stand in."""
        files = dict.fromkeys(where.rsplit(":", 1)[0] for where in self._locations.values())
        return in_file_order(self.problems, list(files))

    def _index(self, name: str) -> int:
        return next(i for i, op in enumerate(self.spec.ops) if op.name == name)

    def _where(self, at: Location) -> str:
        for end in range(len(at), 0, -1):
            if at[:end] in self._locations:
                return self._locations[at[:end]]
            if end == len(at) and at[-1] != FIRST_PORT and "inputs" in at and (*at[:-1], FIRST_PORT) in self._locations:
                return self._locations[(*at[:-1], FIRST_PORT)]
        return ""

    def _say(self, code: str, message: str, at: Location, hint: str | None = None) -> None:
        where = self._where(at)
        if not where:
            kind, index = (at[0], int(at[1])) if len(at) > 1 and isinstance(at[1], int) else ("", 0)
            if kind == "ops":
                where = f"stage {self.spec.ops[index].name}"
            elif kind == "sinks":
                where = f"sink {self.spec.sinks[index].name}"
            else:
                where = f"pipeline {self.spec.name}"
            message = message.removeprefix(f"{where}: ")
        self.problems.append(Problem(code, message, where, hint))
