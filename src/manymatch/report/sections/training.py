"""How the runs were trained: validation by epoch, each loss term, and what a batch shows."""

from __future__ import annotations

from collections.abc import Iterable

from ..charts import Series, figure, line_chart
from ..gather import Material, Seen
from ..markup import Html, join, tag

__all__ = ["training"]

_NO_TERMS = ("step", "epoch", "lr", "seconds", "RSUM", "elements with gradient")
_WAYS = ("i2t ", "t2i ", "i2i ", "t2t ")
_BATCH = "batch "


def training(material: Material) -> Html:
    """Curves of every run that kept a diary."""
    kept = [seen for seen in material.seen if seen.run.diary]
    without = [seen.name for seen in material.seen if not seen.run.diary]
    said = None
    if without:
        said = tag("p", f"No epochs are recorded of {', '.join(without)}: nothing to draw of them.", class_="none")
    return join([_validation(kept), *(_terms(seen) for seen in kept), said])


def _validation(kept: list[Seen]) -> Html | None:
    drawn = [Series(s.name, _points(s, "RSUM"), s.style) for s in kept if _points(s, "RSUM")]
    variances = [
        Series(f"{s.name} {what}", _points(s, f"{way} log circular variance"), s.style)
        for s in kept
        for way, what in (("i2i", "images"), ("t2t", "captions"))
        if _points(s, f"{way} log circular variance")
    ]
    if not drawn:
        return None
    curves = [
        figure(
            line_chart("RSUM on the validation split by epoch", drawn, "epoch", "RSUM"), "RSUM on the validation split."
        )
    ]
    if variances:
        picture = line_chart("Log circular variance by epoch", variances, "epoch", "log circular variance")
        curves.append(
            figure(picture, "Spread of the sets on the validation split: the lower, the closer to one point.")
        )
    return tag("div", *curves, class_="charts")


def _terms(seen: Seen) -> Html:
    names = [name for name in dict.fromkeys(_keys(seen.run.diary)) if name != "loss"]
    loss = ["loss"] if _points(seen, "loss") else []
    pictures = [_small(seen, name, name) for name in [*loss, *names] if not name.startswith(_BATCH)]
    pictures += [_small(seen, "lr", "learning rate")] if _points(seen, "lr") else []
    label = tag("span", seen.name, class_=f"run s{seen.style % 6}")
    shown = [_small(seen, name, name.removeprefix(_BATCH)) for name in names if name.startswith(_BATCH)]
    parts = [("Loss terms of ", pictures), ("What the first batch of training shows of ", shown)]
    return join(
        tag("div", tag("h3", what, label), tag("div", *charts, class_="charts small"))
        for what, charts in parts
        if charts
    )


def _small(seen: Seen, key: str, name: str) -> Html:
    series = [Series("", _points(seen, key), seen.style)]
    return figure(line_chart(f"{name} of {seen.name} by epoch", series, "epoch", name, small=True))


def _keys(diary: Iterable[dict[str, object]]) -> list[str]:
    return [
        key
        for row in diary
        for key, value in row.items()
        if key not in _NO_TERMS and not key.startswith(_WAYS) and isinstance(value, int | float)
    ]


def _points(seen: Seen, key: str) -> list[tuple[float, float]]:
    rows = seen.run.diary
    return [(float(row["epoch"]), float(row[key])) for row in rows if isinstance(row.get(key), int | float)]
