"""Charts drawn by matplotlib in many looks; every text's place is read back from the drawn figure.

Knows how a chart looks, not what it says.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import produce

from .chart import (
    PIE_LEAST,
    PLOT,
    Chart,
    Drawing,
    Placed,
    apart,
    beside,
    check_colors,
    ems,
    free_sides,
    lightness,
    segments,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

DPI = 100
PALETTES = ("tab10", "Set1", "Dark2", "Set2", "Accent", "tab20b", "random")
DARK_PALETTES = ("Set2", "Pastel1", "Set3")
MARKERS = ("o", "s", "^", "D", "v", "P")
AXIS_GAP, TICK_GAP = 7, 9  # pixels: an axis' title and its numbers; those and the plot (matplotlib's own)
PIE_NAMES = 1.08  # of its radius: where names stand beside a pie
HATCHES = ("//", "\\\\", "xx", "..", "--")


@dataclass(frozen=True)
class Look:
    """How one chart is drawn; sizes in pixels."""

    width: int
    height: int
    em: float
    palette: str
    colors: tuple[tuple[float, float, float], ...]
    dark: bool
    paper: float  # grey of the plot
    frame: str  # none, corner or box
    grid: bool
    legend: str
    bar: float  # share of its place that a bar fills
    hatched: bool
    edged: bool
    markers: bool
    inside: bool  # labels inside bars and slices
    rotation: int  # of category names that do not fit side by side, in degrees
    title_side: str
    start: int  # of a pie, in degrees
    pad: int  # paper around the chart


def draw(chart: Chart, font: Path, rng: numpy.random.Generator) -> Drawing:
    """The chart in a look of its own."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from PIL import Image

    look = random_look(chart, rng)
    check_colors(look.colors[: len(chart.series)])
    paper = "#202020" if look.dark else "white"
    with matplotlib.rc_context({"text.usetex": False, "text.parse_math": False, "hatch.linewidth": 0.6}):
        figure = Figure((look.width / DPI, look.height / DPI), DPI, facecolor=paper)
        canvas = FigureCanvasAgg(figure)
        plot = _Plot(chart, look, figure, FontProperties(fname=str(font), size=look.em * 72 / DPI))
        plot.draw(canvas.get_renderer())
        canvas.draw()
        image = Image.fromarray(plot.pixels(canvas))
        texts = plot.texts(canvas.get_renderer())
        settings = {key: value for key, value in asdict(look).items() if key != "colors"}
        return Drawing(image, texts, plot.marks(), plot.area(), 0.9 * look.em, settings)


def random_look(chart: Chart, rng: numpy.random.Generator) -> Look:
    """A look that suits the chart."""
    width, height = chart.turned(int(rng.integers(600, 1281)), int(rng.integers(480, 961)))
    random = rng.random(12).tolist()
    dark = random[0] < 0.1
    names = DARK_PALETTES if dark else PALETTES
    palette = names[int(rng.integers(len(names)))]
    count = len(chart.series[0].keys) if chart.kind == "pie" or random[1] < 0.25 else len(chart.series)
    hatched = chart.kind in ("bar", "grouped") and not chart.stacked and random[2] < 0.15
    return Look(
        width, height,
        em=round((1.12 * chart.least_em + 0.0075 * random[3]) * max(width, height), 1),
        palette=palette,
        colors=_colors(palette, max(count, len(chart.series)), len(chart.series), rng),
        dark=dark,
        paper=0.13 if dark else 0.92 if random[4] < 0.15 else 1.0,
        frame=("none", "corner", "box")[int(rng.integers(3))],
        grid=random[5] < 0.6 or not chart.labels,
        legend=("top", "bottom", "right")[int(rng.integers(3))],
        bar=round(0.45 + 0.45 * random[6], 2),
        hatched=hatched,
        edged=random[7] < 0.3,
        markers=random[8] < 0.75,
        inside=chart.stacked or (random[9] < 0.3 and not hatched),
        rotation=(30, 45, 90)[int(rng.integers(3))],
        title_side="center" if random[10] < 0.7 else "left",
        start=int(360 * random[11]),
        pad=int(rng.integers(6, 40)),
    )  # fmt: skip


def _colors(
    palette: str, count: int, series: int, rng: numpy.random.Generator
) -> tuple[tuple[float, float, float], ...]:
    """So many colours in random order, those of the series unlike each other."""
    import matplotlib

    colors = [] if palette == "random" else list(matplotlib.colormaps[palette].colors)
    if palette == "tab20b":
        colors = colors[::4] + colors[2::4]
    colors = [color for color in colors if 0.05 < lightness(color) < 0.75 or palette in DARK_PALETTES]
    if len(colors) < count:
        first = rng.random()
        hues = [(first + index / count) % 1 for index in range(count)]
        colors = [colorsys.hsv_to_rgb(hue, 0.75, (0.65, 0.9)[index % 2]) for index, hue in enumerate(hues)]
    shuffled = apart((colors[index] for index in rng.permutation(len(colors))), series)
    return tuple(tuple(round(float(part), 3) for part in color) for color in shuffled[:count])


def _corners(box: Any) -> numpy.ndarray:
    """The outline of one of matplotlib's boxes."""
    import numpy

    corners = [(box.x0, box.y0), (box.x0, box.y1), (box.x1, box.y1), (box.x1, box.y0), (box.x0, box.y0)]
    return numpy.array(corners)


class _Plot:
    """One chart on one figure; what is drawn is kept so that its place can be read."""

    def __init__(self, chart: Chart, look: Look, figure: Figure, font: FontProperties) -> None:
        self.chart, self.look, self.figure, self.font = chart, look, figure, font
        self.ink = "white" if look.dark else "black"
        self.axes: Axes = figure.add_subplot()
        self._outlines: list[Any] = []  # of artists, or functions that give points in pixels
        self._own: list[Text] = []
        self._names: dict[str, tuple[str, ...]] = {}  # of the ticks of x and y
        self._rotation = 0  # of the names below x
        self._labels: list[Callable[[], None]] = []  # write the values, once the plot has its place

    def draw(self, renderer: Any) -> None:
        self.renderer = renderer
        kinds = {"bar": self._bars, "grouped": self._bars, "line": self._lines, "pie": self._pie,
                 "scatter": self._points}  # fmt: skip
        self._style()
        kinds[self.chart.kind]()
        self._arrange()
        for label in self._labels:
            label()

    def pixels(self, canvas: Any) -> numpy.ndarray:
        import numpy

        return numpy.asarray(canvas.buffer_rgba())[..., :3].copy()

    def texts(self, renderer: Any) -> list[Placed]:
        """All texts of the figure that were drawn."""
        from matplotlib.text import Text

        result = []
        for text in self.figure.findobj(Text):
            if text.get_visible() and text.get_text().strip() and self._shown(text):
                result.append(self._placed(text, renderer))
        return result

    def marks(self) -> list[numpy.ndarray]:
        return [self._flip(outline()) for outline in self._outlines]

    def area(self) -> tuple[float, float, float, float]:
        box = self.axes.get_window_extent()
        return box.x0, self.look.height - box.y1, box.x1, self.look.height - box.y0

    def _shown(self, text: Text) -> bool:
        """Tick labels outside the limits exist but are not drawn; so do the texts of a pie's hidden axes."""
        if text in self._own:
            return True
        for axis, index in ((self.axes.xaxis, 0), (self.axes.yaxis, 1)):
            if any(text in (tick.label1, tick.label2) for tick in axis.get_major_ticks()):
                low, high = sorted(axis.get_view_interval())
                inside = low - 1e-9 <= text.get_position()[index] <= high + 1e-9
                return self.chart.kind != "pie" and inside
        return False  # of a tick that the axis keeps for later

    def _placed(self, text: Text, renderer: Any) -> Placed:
        turned = text.get_window_extent(renderer)
        angle = text.get_rotation()
        flat = turned
        if angle % 180:
            text.set_rotation(0)
            flat = text.get_window_extent(renderer)
            text.set_rotation(angle)
        middle = ((turned.x0 + turned.x1) / 2, self.look.height - (turned.y0 + turned.y1) / 2)
        return Placed(text.get_text(), middle, (flat.width, flat.height), -math.radians(angle))

    def _flip(self, points: numpy.ndarray) -> numpy.ndarray:
        """Pixels counted from the top, as in pictures."""
        import numpy

        return numpy.column_stack([points[:, 0], self.look.height - points[:, 1]])

    def _style(self) -> None:
        axes, look = self.axes, self.look
        axes.set_facecolor(str(look.paper))
        for side, spine in axes.spines.items():
            spine.set_visible(look.frame == "box" or (look.frame == "corner" and side in ("left", "bottom")))
            spine.set_color(self.ink)
        axes.tick_params(colors=self.ink, length=3 if look.frame != "none" else 0)
        axes.tick_params(axis="x", pad=3.5 + self._tick_pad() * 72 / DPI)
        axes.set_axisbelow(True)
        if self.chart.kind != "pie":
            self._outlines.append(self._frame)

    def _frame(self) -> numpy.ndarray:
        return _corners(self.axes.get_window_extent())

    def _write(self, text: Text) -> Text:
        self._own.append(text)
        return text

    def _size(self, text: str, font: FontProperties | None = None) -> tuple[float, float]:
        """Width and height of a text in pixels, the height as matplotlib takes it: of a whole line."""
        measure = self.renderer.get_text_width_height_descent
        width, height, _ = measure(text, font or self.font, False)
        return width, max(height, measure("lp", font or self.font, False)[1])

    def _arrange(self) -> None:
        """Titles, legend and source around a plot that has what they and the numbers of its axes leave."""
        pad, em = self.look.pad, self.look.em
        edges = {"left": pad, "right": pad, "top": pad, "bottom": pad}
        self._source(edges)
        above = len(self.chart.series) > 1 and self.look.legend == "top"  # then between title and plot
        self._title(edges)
        self._legend(edges)
        if self.chart.kind == "pie":
            self._arrange_pie(edges)
            return
        for text, label, side in (
            (self.chart.x_title, self.axes.set_xlabel, "bottom"),
            (self.chart.y_title, self.axes.set_ylabel, "left"),
        ):
            if text:
                self._write(label(text, fontproperties=self.font, color=self.ink))
                edges[side] += self._size(text)[1] + AXIS_GAP
        self._axis_texts(edges)
        edges["top"] += 0.5 * em if not above else 0.3 * em
        self._place(edges["left"], edges["bottom"], self.look.width - edges["right"],
                    self.look.height - edges["top"])  # fmt: skip

    def _place(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """The plot's corners in pixels, counted from the picture's lower left."""
        width, height = self.look.width, self.look.height
        self.axes.set_position((x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height))

    def _axis_texts(self, edges: dict[str, float]) -> None:
        """Room for the numbers and names at the axes, also where the last ones lean out."""
        across = [self._size(text)[0] for text in self._names["y"]]
        edges["left"] += max(across) + TICK_GAP
        sizes = [self._size(text) for text in self._names["x"]]
        turn = math.radians(self._rotation)
        heights = [width * math.sin(turn) + height * math.cos(turn) for width, height in sizes]
        edges["bottom"] += max(heights) + TICK_GAP + self._tick_pad()
        if 0 < self._rotation < 90:  # they end below their tick
            slot = PLOT * self.look.width / len(sizes)
            leans = max(
                width * math.cos(turn) - (index + 0.5) * slot for index, (width, _) in enumerate(sizes)
            )
            edges["left"] = max(edges["left"], self.look.pad + leans)
        if self.chart.horizontal or self.chart.kind == "scatter":  # the last number lies at the corner
            edges["right"] += sizes[-1][0] / 2

    def _tick_pad(self) -> float:
        """Pixels by which numbers below the plot stand lower, so that the corner holds those of both axes."""
        return 0.4 * self.look.em if self.chart.kind == "scatter" else 0.0

    def _arrange_pie(self, edges: dict[str, float]) -> None:
        """A circle in the middle, as large as the names beside it allow."""
        em = self.look.em
        widest = max(self._size(key)[0] for key in self.chart.series[0].keys)
        across = (self.look.width - edges["left"] - edges["right"]) / 2 - widest
        down = (self.look.height - edges["top"] - edges["bottom"]) / 2 - 0.8 * em
        radius = min(across, down) / PIE_NAMES
        if radius < PIE_LEAST * em:
            raise produce.Rejected("a pie has no room beside its names")
        x = (self.look.width + edges["left"] - edges["right"]) / 2
        y = (self.look.height + edges["bottom"] - edges["top"]) / 2
        reach = 1.25 * radius  # matplotlib's limits of a pie's axes
        self._place(x - reach, y - reach, x + reach, y + reach)

    def _sized(self, share: float) -> FontProperties:
        font = self.font.copy()
        font.set_size(share * self.look.em * 72 / DPI)
        return font

    def _source(self, edges: dict[str, float]) -> None:
        if not self.chart.source:
            return
        font, text = self._sized(0.9), self.chart.source_line
        y = edges["bottom"] / self.look.height
        self._write(self.figure.text(0.02, y, text, va="bottom", fontproperties=font, color=self.ink))
        edges["bottom"] += self._size(text, font)[1] + 0.4 * self.look.em

    def _title(self, edges: dict[str, float]) -> None:
        if not self.chart.title:
            return
        font, text, side = self._sized(1.25), self.chart.title, self.look.title_side
        x, y = {"left": 0.02, "center": 0.5}[side], 1 - edges["top"] / self.look.height
        title = self.figure.text(x, y, text, ha=side, va="top", fontproperties=font, color=self.ink)
        self._write(title)
        edges["top"] += self._size(text, font)[1] + 0.4 * self.look.em

    def _legend(self, edges: dict[str, float]) -> None:
        """The names of the series at the side that the look says."""
        if len(self.chart.series) == 1:
            return
        where, columns, x, y = {
            "top": ("upper center", 4, 0.5, 1 - edges["top"] / self.look.height),
            "bottom": ("lower center", 4, 0.5, edges["bottom"] / self.look.height),
            "right": ("upper right", 1, 1 - edges["right"] / self.look.width,
                      1 - edges["top"] / self.look.height),
        }[self.look.legend]  # fmt: skip
        handles, names = self.axes.get_legend_handles_labels()
        room = self.look.width / self.look.em - 3
        while columns > 1 and sum(sorted(map(ems, names))[-columns:]) + 4 * columns > room:
            columns -= 1
        legend = self.figure.legend(
            handles, names, loc=where, ncols=min(columns, len(names)), prop=self.font, labelcolor=self.ink,
            facecolor="none", frameon=self.look.edged, bbox_to_anchor=(x, y), borderaxespad=0,
        )  # fmt: skip
        for text in legend.get_texts():
            self._write(text)
        box = legend.get_window_extent(self.renderer)
        edges[self.look.legend] += 0.5 * self.look.em + (
            box.width if self.look.legend == "right" else box.height
        )
        self._outlines.append(lambda: _corners(legend.get_window_extent()))

    def _scale(self, axis: Any, scale: Any, limits: Any, grid: str) -> None:
        """Ticks and limits of an axis that shows numbers."""
        lies = axis is self.axes.xaxis
        scale = scale.thinned(PLOT * self.look.width / self.look.em) if lies else scale
        places, names = zip(*scale.ticks, strict=True)
        self._names["x" if lies else "y"] = names
        axis.set_ticks(places, names, fontproperties=self.font, color=self.ink)
        limits(scale.value(scale.low), scale.value(scale.high))
        if self.look.grid:
            self.axes.grid(axis=grid, color="0.4" if self.look.dark else "0.8", linewidth=0.6)

    def _values_axis(self) -> None:
        if self.chart.horizontal:
            self._scale(self.axes.xaxis, self.chart.axis, self.axes.set_xlim, "x")
        else:
            self._scale(self.axes.yaxis, self.chart.axis, self.axes.set_ylim, "y")

    def _names_axis(self, keys: tuple[str, ...]) -> None:
        places = range(len(keys))
        if self.chart.horizontal:
            self.axes.set_yticks(places, keys, fontproperties=self.font, color=self.ink)
            self.axes.invert_yaxis()
            self._names["y"] = keys
            return
        self._names["x"] = keys
        widest = max(self._size(key)[0] for key in keys)
        turn = {"rotation": self.look.rotation} if widest > PLOT * self.look.width / len(keys) else {}
        self._rotation = turn.get("rotation", 0)
        if turn and self.look.rotation != 90:
            turn |= {"ha": "right", "rotation_mode": "anchor"}
        self.axes.set_xticks(places, keys, fontproperties=self.font, color=self.ink, **turn)

    def _bars(self) -> None:
        chart, look = self.chart, self.look
        count = 1 if chart.stacked else len(chart.series)
        thick = look.bar / count
        base = [0.0] * len(chart.series[0].keys)
        for row, series in enumerate(chart.series):
            lengths = [chart.axis.value(number) for number in series.numbers]
            shift = 0.0 if chart.stacked else (row - (count - 1) / 2) * thick
            places = [index + shift for index in range(len(lengths))]
            bars = self._row(row, places, lengths, thick, base)
            for bar, number in zip(bars, series.numbers, strict=True):
                self._outlines.append(lambda bar=bar: bar.get_transform().transform(bar.get_path().vertices))
                if chart.labels:
                    self._labels.append(partial(self._bar_label, bar, number))
            if chart.stacked:
                base = [below + length for below, length in zip(base, lengths, strict=True)]
        self._values_axis()
        self._names_axis(chart.series[0].keys)
        if chart.axis.low < 0:
            line = self.axes.axvline if chart.horizontal else self.axes.axhline
            line(0, color=self.ink, linewidth=0.8)

    def _row(
        self, row: int, places: list[float], lengths: list[float], thick: float, base: list[float]
    ) -> Any:
        """The bars of one series; a single series may have a colour for each bar."""
        chart, look = self.chart, self.look
        colors: Any = look.colors[row]
        if len(chart.series) == 1 and len(look.colors) >= len(places):
            colors = look.colors[: len(places)]
        style = {"color": colors, "label": chart.series[row].name or None}
        if look.hatched:
            style |= {"hatch": HATCHES[row % len(HATCHES)], "edgecolor": self.ink}
        elif look.edged:
            style |= {"edgecolor": self.ink, "linewidth": 0.8}
        if chart.horizontal:
            return self.axes.barh(places, lengths, thick, left=base, **style)
        return self.axes.bar(places, lengths, thick, bottom=base, **style)

    def _bar_label(self, bar: Any, number: int) -> None:
        """Inside the bar if the look asks for it and there is room, else at its end."""
        chart, text = self.chart, self.chart.value_text(number)
        size = self._size(text)
        corners = bar.get_bbox()
        drawn = self.axes.transData.transform_bbox(corners)
        fits = abs(drawn.width) > size[0] + 4 and abs(drawn.height) > size[1] + 4
        if chart.stacked or (self.look.inside and fits):
            color = "black" if lightness(bar.get_facecolor()) > 0.18 else "white"
            middle = ((corners.x0 + corners.x1) / 2, (corners.y0 + corners.y1) / 2)
            self._annotate(text, middle, (0, 0), color)
            return
        ends = ("left", "right") if chart.horizontal else ("bottom", "top")
        end = (bar.get_x() + bar.get_width(), (corners.y0 + corners.y1) / 2) if chart.horizontal else (
            (corners.x0 + corners.x1) / 2, bar.get_y() + bar.get_height())  # fmt: skip
        self._beside_point(text, end, ends[number > 0], size, 0.35 * self.look.em)

    def _beside_point(
        self, text: str, point: tuple[float, float], side: str, size: tuple[float, float], gap: float
    ) -> None:
        x, y = beside((0, 0), size, side, gap)
        self._annotate(text, point, (x, -y))

    def _annotate(
        self, text: str, point: tuple[float, float], shift: tuple[float, float], color: str = ""
    ) -> None:
        """A text whose middle lies `shift` pixels right of and above a point."""
        label = self.axes.annotate(
            text, point, tuple(part * 72 / DPI for part in shift), textcoords="offset points",
            ha="center", va="center", fontproperties=self.font, color=color or self.ink,
            annotation_clip=False,
        )  # fmt: skip
        self._write(label)

    def _lines(self) -> None:
        chart, look = self.chart, self.look
        keys = chart.series[0].keys
        self.axes.set_xlim(-0.4, len(keys) - 0.6)
        for row, series in enumerate(chart.series):
            heights = [chart.axis.value(number) for number in series.numbers]
            marker = MARKERS[row % len(MARKERS)] if look.markers or len(chart.series) > 1 else ""
            (line,) = self.axes.plot(
                range(len(keys)), heights, color=look.colors[row], marker=marker, label=series.name or None,
                markersize=0.32 * look.em, linewidth=1 + 1.5 * look.bar,
            )  # fmt: skip
            self._outlines.append(lambda line=line: self.axes.transData.transform(line.get_xydata()))
        if chart.labels:
            self._labels.append(self._point_labels)
        self._values_axis()
        self._names_axis(keys)

    def _point_labels(self) -> None:
        """The numbers of all points, each at a side where nothing is."""
        import numpy

        chart = self.chart
        xs = chart.points or [range(len(series.keys)) for series in chart.series]
        texts, points, sides = [], [], []
        for row, (series, places) in enumerate(zip(chart.series, xs, strict=True)):
            for index, (x, number) in enumerate(zip(places, series.numbers, strict=True)):
                points.append((chart.x_axis.value(x) if chart.x_axis else x, chart.axis.value(number)))
                texts.append(chart.value_text(number))
                sides.append(chart.prefers(row, index))
        drawn = self._flip(self.axes.transData.transform(points)).tolist()
        sizes = [self._size(text) for text in texts]
        taken = numpy.concatenate([segments(self._flip(line())) for line in self._outlines])
        chosen = free_sides(drawn, sizes, sides, taken, self.look.em)
        for text, point, size, (side, gap) in zip(texts, points, sizes, chosen, strict=True):
            self._beside_point(text, point, side, size, gap)

    def _points(self) -> None:
        chart, look = self.chart, self.look
        for row, (series, xs) in enumerate(zip(chart.series, chart.points, strict=True)):
            places = [chart.x_axis.value(x) for x in xs]
            heights = [chart.axis.value(number) for number in series.numbers]
            self.axes.scatter(
                places, heights, s=(0.45 * look.em) ** 2, color=[look.colors[row]], marker=MARKERS[row],
                label=series.name or None, zorder=3,
            )  # fmt: skip
            for point in zip(places, heights, strict=True):
                self._outlines.append(partial(self._around, point))
        if chart.labels:
            self._labels.append(self._point_labels)
        self._values_axis()
        self._scale(self.axes.xaxis, chart.x_axis, self.axes.set_xlim, "both")

    def _around(self, point: tuple[float, float]) -> numpy.ndarray:
        import numpy

        reach = 0.3 * self.look.em
        square = numpy.array([(-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1)]) * reach
        return self.axes.transData.transform([point]) + square

    def _pie(self) -> None:
        chart, look = self.chart, self.look
        series = chart.series[0]
        heights = [chart.axis.value(number) for number in series.numbers]
        wedges, _ = self.axes.pie(
            heights, colors=look.colors, startangle=look.start, counterclock=False,
            wedgeprops={"edgecolor": "white", "linewidth": 1} if look.edged else None,
        )  # fmt: skip
        for wedge, key, number in zip(wedges, series.keys, series.numbers, strict=True):
            self._outlines.append(
                lambda wedge=wedge: wedge.get_transform().transform_path(wedge.get_path()).vertices
            )
            angle = math.radians((wedge.theta1 + wedge.theta2) / 2)
            way = (math.cos(angle), math.sin(angle))
            color = "black" if lightness(wedge.get_facecolor()) > 0.18 else "white"
            far = 0.5 + 0.3 * look.bar
            self._annotate(chart.value_text(number), (far * way[0], far * way[1]), (0, 0), color)
            self._name_beside(key, way)

    def _name_beside(self, text: str, way: tuple[float, float]) -> None:
        """A text outside the circle, its near side towards the slice."""
        side = "left" if way[0] >= 0 else "right"
        label = self.axes.annotate(
            text, (PIE_NAMES * way[0], PIE_NAMES * way[1]), ha=side, va="center", fontproperties=self.font,
            color=self.ink, annotation_clip=False,
        )  # fmt: skip
        self._write(label)
