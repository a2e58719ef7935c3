"""What variants were measured to take, compared: rows, the front of what none beats, charts, and one HTML page.

A variant is beaten by one that is at least as fast, as cheap and as right, and better in one of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from llamapipe.catalog import AccuracyFigure, AccuracyKind, Profile, ProfileState
from llamapipe.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Axis, grid
from llamapipe.report.charts import WIDTH
from llamapipe.report.html import environment
from llamapipe.report.written import PAGE, check_replaceable, write_whole

__all__ = [
    "VariantRow",
    "kind_of",
    "latency_by_batch",
    "meaning_of",
    "metric_of",
    "rows_of",
    "short_names",
    "write_profiles_html",
]

_MOST_LINES = 12
_AGREEMENT = "agreement"
_KINDS = (AccuracyKind.MEASURED, AccuracyKind.AGREEMENT, AccuracyKind.PUBLISHED)  # the nearest to the truth first


@dataclass(frozen=True, slots=True)
class VariantRow:
    """A variant's figures, as tables and charts show them. None: not known."""

    name: str  # as short as tells it apart from the others
    profile: Profile
    latency_s: float | None = None  # of one item, median
    p95_s: float | None = None
    items_per_s: float | None = None  # at the best batch
    core_s: float | None = None  # an item, at the best batch
    accuracy: AccuracyFigure | None = None
    on_front: bool = False


def metric_of(profiles: Sequence[Profile], metric: str | None = None) -> str:
    """The metric that variants are compared by: what was measured against the same labels for all that may be chosen,
    else agreement where it is known, else the one that most have."""
    if metric is not None:
        return metric
    ready = [profile for profile in profiles if profile.state == ProfileState.READY]
    measured = [
        {(a.metric, a.dataset) for a in profile.accuracy if a.kind == AccuracyKind.MEASURED} for profile in ready
    ]
    for_all = sorted(set.intersection(*measured)) if measured else []
    if for_all:
        return for_all[0][0]
    found = [figure.metric for profile in profiles for figure in profile.accuracy]
    return _AGREEMENT if _AGREEMENT in found or not found else max(sorted(set(found)), key=found.count)


def kind_of(profiles: Sequence[Profile], metric: str) -> str:
    """The kind of a metric's figures, of which alone are compared; empty where there are none."""
    kinds = {figure.kind for profile in profiles for figure in profile.accuracy if figure.metric == metric}
    return next((kind.value for kind in _KINDS if kind in kinds), "")


def meaning_of(profiles: Sequence[Profile], metric: str) -> str:
    """What the figures of a metric are, for people, such as "ap50: measured against the labels of entrance.mp4"."""
    kind = kind_of(profiles, metric)
    figures = [figure for profile in profiles if (figure := profile.accuracy_of(metric, kind)) is not None]
    if not figures:
        return ""
    what = {
        AccuracyKind.MEASURED.value: "measured, average precision at IoU 0.5 against the labels of",
        AccuracyKind.AGREEMENT.value: "F1 with the best variant of the task on",
        AccuracyKind.PUBLISHED.value: "published of the model, on",
    }[kind]
    tasks = ", ".join(sorted({figure.task for figure in figures if figure.task}))
    datasets = ", ".join(sorted({figure.dataset for figure in figures}))
    return f"{metric}: {what} {datasets}" + (f" ({tasks})" if tasks else "")


def rows_of(profiles: Sequence[Profile], metric: str | None = None) -> list[VariantRow]:
    """A row a variant: those on the front first, by latency; then the others, and the rejected ones last."""
    metric = metric_of(profiles, metric)
    kind, names = kind_of(profiles, metric), short_names(profiles)
    rows = [_row(name, profile, metric, kind) for name, profile in zip(names, profiles, strict=True)]
    rows = [
        VariantRow(row.name, row.profile, row.latency_s, row.p95_s, row.items_per_s, row.core_s, row.accuracy, front)
        for row in rows
        for front in [row.latency_s is not None and not any(_beats(other, row) for other in rows)]
    ]
    return sorted(rows, key=lambda row: (not row.on_front, row.latency_s is None, row.latency_s or 0.0, row.name))


def short_names(profiles: Sequence[Profile]) -> list[str]:
    """Names of variants without what all of them share."""
    parts = [profile.variant.name.split("/") for profile in profiles]
    varies = [len({part[i] for part in parts}) > 1 for i in range(6)]
    varies[1] = True  # the library always tells something
    return ["/".join(part for part, shown in zip(each, varies, strict=True) if shown) for each in parts]


def latency_by_batch(rows: Sequence[VariantRow]) -> str:
    """A line a variant, both axes logarithmic: seconds of an invocation by its batch."""
    drawn = _drawn(rows)
    if not drawn:
        return ""
    points = [point for row in drawn for point in row.profile.points]
    across = Axis([float(point.batch) for point in points], LEFT, WIDTH - RIGHT)
    up = Axis([point.median_s * 1000 for point in points], HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="latency by batch">']
    parts += grid(across, up, "batch", "ms", across_ticks=sorted({float(point.batch) for point in points}))
    for i, row in enumerate(drawn):
        places = [(across.place(point.batch), up.place(point.median_s * 1000)) for point in row.profile.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_colour(i, len(drawn))}" stroke-width="2"/>')
        for point, (x, y) in zip(row.profile.points, places, strict=True):
            title = f"{row.name}, batch {point.batch}: {point.median_s * 1000:.1f} ms, p95 {point.p95_s * 1000:.1f} ms"
            kind = "measured" if point.count else "predicted"
            fill = _colour(i, len(drawn)) if point.count else "var(--paper)"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{_colour(i, len(drawn))}">'
                f"<title>{escape(title)}, {kind}</title></circle>"
            )
    return "".join([*parts, "</svg>"])


def front_chart(rows: Sequence[VariantRow]) -> str:
    """A dot a variant: latency of one item against accuracy, as large as it is dear; the front is joined."""
    drawn = [row for row in rows if row.latency_s is not None and row.accuracy is not None]
    if not drawn:
        return ""
    across = Axis([(row.latency_s or 0) * 1000 for row in drawn], LEFT, WIDTH - RIGHT)
    values = [row.accuracy.value for row in drawn if row.accuracy is not None]
    up = Axis(values, HEIGHT - BOTTOM, TOP, logarithmic=False)
    dearest = max(row.core_s or 0.0 for row in drawn) or 1.0
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="accuracy against latency and cost">']
    parts += grid(across, up, "ms an item", "")
    front = sorted((row for row in drawn if row.on_front), key=lambda row: row.latency_s or 0)
    stairs = [(across.place((row.latency_s or 0) * 1000), up.place(_value(row))) for row in _rising(front)]
    path = "".join(f"{'M' if i == 0 else f'H{x:.1f} L'}{x:.1f},{y:.1f} " for i, (x, y) in enumerate(stairs))
    if path:
        parts.append(f'<path d="{path}" fill="none" class="front"/>')
    for row in drawn:
        x, y = across.place((row.latency_s or 0) * 1000), up.place(_value(row))
        radius = 4 + 10 * math.sqrt((row.core_s or 0.0) / dearest)
        figure = row.accuracy
        assert figure is not None
        if figure.low is not None and figure.high is not None:
            low, high = up.place(max(figure.low, up.low)), up.place(min(figure.high, up.high))
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" class="interval"/>')
        title = (
            f"{row.profile.variant.name}: {figure.metric} {figure.value:.3f}, {(row.latency_s or 0) * 1000:.1f} ms, "
            f"{(row.core_s or 0) * 1000:.1f} core-ms an item"
        )
        colour = "var(--accent)" if row.on_front else "var(--soft)"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.6">'
            f"<title>{escape(title)}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def write_profiles_html(path: Path, title: str, profiles: Sequence[Profile], metric: str | None = None) -> None:
    """One page with both charts and the table; nothing is loaded from elsewhere. Raises OutputError."""
    rows = rows_of(profiles, metric)
    drawn = _drawn(rows)
    html = (
        environment()
        .get_template("profiles.html")
        .render(
            title=title,
            rows=rows,
            metric=metric_of(profiles, metric),
            meaning=meaning_of(profiles, metric_of(profiles, metric)),
            hardware=sorted({profile.hardware for profile in profiles}),
            legend=[(row.name, _colour(i, len(drawn))) for i, row in enumerate(drawn)],
            left_out=sum(1 for row in rows if row.latency_s is not None) - len(drawn),
            latency_chart=latency_by_batch(rows),
            front_chart=front_chart(rows),
        )
    )
    check_replaceable(path, PAGE, "page")
    write_whole(path, html.encode())


def _row(name: str, profile: Profile, metric: str, kind: str) -> VariantRow:
    accuracy = profile.accuracy_of(metric, kind)
    if profile.state != ProfileState.READY or not profile.points:
        return VariantRow(name, profile, accuracy=accuracy)
    first, best = profile.points[0], profile.best_batch()
    return VariantRow(
        name,
        profile,
        first.median_s / first.batch,
        first.p95_s,
        profile.throughput(best),
        profile.core_s_per_item(best),
        accuracy,
    )


def _value(row: VariantRow) -> float:
    return row.accuracy.value if row.accuracy is not None else 0.0


def _beats(one: VariantRow, other: VariantRow) -> bool:
    if one.latency_s is None or other.latency_s is None or one.core_s is None or other.core_s is None:
        return False
    good = (one.latency_s, one.core_s, -_value(one)), (other.latency_s, other.core_s, -_value(other))
    return all(a <= b for a, b in zip(*good, strict=True)) and good[0] != good[1]


def _rising(front: Sequence[VariantRow]) -> list[VariantRow]:
    """Of variants by latency, those that are more accurate than every faster one."""
    found: list[VariantRow] = []
    for row in front:
        if not found or _value(row) > _value(found[-1]):
            found.append(row)
    return found


def _drawn(rows: Sequence[VariantRow]) -> list[VariantRow]:
    return [row for row in rows if row.latency_s is not None][:_MOST_LINES]


def _colour(i: int, num: int) -> str:
    return f"hsl({(210 + 360 * i // max(1, num)) % 360} 62% 52%)"
