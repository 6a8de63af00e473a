"""Charts drawn by matplotlib in many looks; every text's place is read back from the drawn figure.

Knows how a chart looks, not what it says.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.charts import Chart, Drawing, Placed, check_colors, lightness

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

DPI = 100
PALETTES = ("tab10", "Set1", "Dark2", "Set2", "Accent", "tab20b", "random")
DARK_PALETTES = ("Set2", "Pastel1", "Set3")
MARKERS = ("o", "s", "^", "D", "v", "P")
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
        figure = Figure((look.width / DPI, look.height / DPI), DPI, facecolor=paper, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=look.pad / DPI, h_pad=look.pad / DPI)
        plot = _Plot(chart, look, figure, FontProperties(fname=str(font), size=look.em * 72 / DPI))
        plot.draw()
        canvas.draw()
        image = Image.fromarray(plot.pixels(canvas))
        texts = plot.texts(canvas.get_renderer())
        settings = {key: value for key, value in asdict(look).items() if key != "colors"}
        return Drawing(image, texts, plot.marks(), plot.area(), 0.9 * look.em, settings)


def random_look(chart: Chart, rng: numpy.random.Generator) -> Look:
    """A look that suits the chart."""
    width, height = int(rng.integers(600, 1281)), int(rng.integers(480, 961))
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
        colors=_colors(palette, max(count, len(chart.series)), rng),
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


def _colors(palette: str, count: int, rng: numpy.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """So many colours in random order; beyond the palette's own the hues are spread evenly."""
    import matplotlib

    colors = [] if palette == "random" else list(matplotlib.colormaps[palette].colors)
    if palette == "tab20b":
        colors = colors[::4] + colors[2::4]
    colors = [color for color in colors if 0.05 < lightness(color) < 0.75 or palette in DARK_PALETTES]
    if len(colors) < count:
        first = rng.random()
        hues = [(first + place / count) % 1 for place in range(count)]
        colors = [colorsys.hsv_to_rgb(hue, 0.75, (0.65, 0.9)[place % 2]) for place, hue in enumerate(hues)]
    order = rng.permutation(len(colors))[:count]
    return tuple(tuple(round(float(part), 3) for part in colors[place]) for place in order)


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

    def draw(self) -> None:
        kinds = {"bar": self._bars, "grouped": self._bars, "line": self._lines, "pie": self._pie,
                 "scatter": self._points}  # fmt: skip
        self._style()
        kinds[self.chart.kind]()
        self._titles()
        self._legend()

    def pixels(self, canvas: Any) -> numpy.ndarray:
        import numpy

        return numpy.asarray(canvas.buffer_rgba())[..., :3].copy()

    def texts(self, renderer: Any) -> list[Placed]:
        """All texts of the figure that were drawn."""
        from matplotlib.text import Text

        found = []
        for text in self.figure.findobj(Text):
            if text.get_visible() and text.get_text().strip() and self._shown(text):
                found.append(self._placed(text, renderer))
        return found

    def marks(self) -> list[numpy.ndarray]:
        return [self._flip(outline()) for outline in self._outlines]

    def area(self) -> tuple[float, float, float, float]:
        box = self.axes.get_window_extent()
        return box.x0, self.look.height - box.y1, box.x1, self.look.height - box.y0

    def _shown(self, text: Text) -> bool:
        """Tick labels outside the limits exist but are not drawn; so do the texts of a pie's hidden axes."""
        if text in self._own:
            return True
        for axis, place in ((self.axes.xaxis, 0), (self.axes.yaxis, 1)):
            ticks = axis.get_major_ticks()
            if any(text in (tick.label1, tick.label2) for tick in ticks):
                low, high = sorted(axis.get_view_interval())
                inside = low - 1e-9 <= text.get_position()[place] <= high + 1e-9
                return self.chart.kind != "pie" and inside
        return True

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
        axes.set_axisbelow(True)
        if self.chart.kind != "pie":
            self._outlines.append(self._frame)

    def _frame(self) -> numpy.ndarray:
        return _corners(self.axes.get_window_extent())

    def _write(self, text: Text) -> Text:
        self._own.append(text)
        return text

    def _titles(self) -> None:
        chart, em = self.chart, self.look.em * 72 / DPI
        larger = self.font.copy()
        larger.set_size(em * 1.25)
        smaller = self.font.copy()
        smaller.set_size(em * 0.9)
        if chart.title:
            self._write(self._title(larger))
        if chart.source:
            source = self.figure.supxlabel(
                chart.source_line, x=0.02, ha="left", fontproperties=smaller, color=self.ink
            )
            self._write(source)
        for text, label in ((chart.x_title, self.axes.set_xlabel), (chart.y_title, self.axes.set_ylabel)):
            if text:
                self._write(label(text, fontproperties=self.font, color=self.ink))

    def _title(self, font: FontProperties) -> Text:
        """Above the figure, or above the plot alone where a legend takes that place."""
        side, text = self.look.title_side, self.chart.title
        if len(self.chart.series) > 1 and self.look.legend == "top":
            return self.axes.set_title(
                text, loc=side, fontproperties=font, color=self.ink, pad=0.6 * self.look.em
            )
        x = {"left": 0.02, "center": 0.5}[side]
        return self.figure.suptitle(text, x=x, ha=side, fontproperties=font, color=self.ink)

    def _legend(self) -> None:
        if len(self.chart.series) == 1:
            return
        places = {"top": ("outside upper center", 4), "bottom": ("outside lower center", 4),
                  "right": ("outside right upper", 1)}  # fmt: skip
        where, columns = places[self.look.legend]
        handles, names = self.axes.get_legend_handles_labels()
        legend = self.figure.legend(
            handles, names, loc=where, ncols=min(columns, len(names)), prop=self.font, labelcolor=self.ink,
            facecolor="none", frameon=self.look.edged,
        )  # fmt: skip
        for text in legend.get_texts():
            self._write(text)
        self._outlines.append(lambda: _corners(legend.get_window_extent()))

    def _scale(self, axis: Any, scale: Any, limits: Any, grid: str) -> None:
        """Ticks and limits of an axis that shows numbers."""
        places, names = zip(*scale.ticks, strict=True)
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
            return
        room = 0.8 * self.look.width / len(keys)
        widest = max(sum(1.0 if ord(char) > 0x2E7F else 0.58 for char in key) for key in keys) * self.look.em
        turn = {"rotation": self.look.rotation} if widest > room else {}
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
            places = [place + shift for place in range(len(lengths))]
            bars = self._row(row, places, lengths, thick, base)
            for bar, number in zip(bars, series.numbers, strict=True):
                self._outlines.append(lambda bar=bar: bar.get_transform().transform(bar.get_path().vertices))
                if chart.labels:
                    self._bar_label(bar, number)
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
        chart, text = self.chart, self.chart.value_text(number)
        box = bar.get_bbox()
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        if self.look.inside:
            color = "black" if lightness(bar.get_facecolor()) > 0.18 else "white"
            self._annotate(text, middle, (0, 0), color)
            return
        away = 0.7 * self.look.em * (1 if number > 0 else -1)
        if chart.horizontal:
            width = 0.3 * self.look.em * len(text) * (1 if number > 0 else -1)
            self._annotate(
                text, (box.x1 if number > 0 else min(box.x0, box.x1), middle[1]), (away / 2 + width, 0)
            )
        else:
            self._annotate(text, (middle[0], box.y1 if number > 0 else min(box.y0, box.y1)), (0, away))

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
                self._line_labels(series.numbers, heights)
        self._values_axis()
        self._names_axis(keys)

    def _line_labels(self, numbers: tuple[int, ...], heights: list[float]) -> None:
        """Above peaks and below valleys, where the line does not pass."""
        for place, height in enumerate(heights):
            beside = heights[max(0, place - 1) : place + 2]
            above = height >= sum(beside) / len(beside)
            shift = (0, (1 if above else -1) * 0.85 * self.look.em)
            self._annotate(self.chart.value_text(numbers[place]), (place, height), shift)

    def _points(self) -> None:
        chart, look = self.chart, self.look
        for row, (series, xs) in enumerate(zip(chart.series, chart.points, strict=True)):
            places = [chart.x_axis.value(x) for x in xs]
            heights = [chart.axis.value(number) for number in series.numbers]
            self.axes.scatter(
                places, heights, s=(0.45 * look.em) ** 2, color=[look.colors[row]], marker=MARKERS[row],
                label=series.name or None, zorder=3,
            )  # fmt: skip
            for place, height, number in zip(places, heights, series.numbers, strict=True):
                self._outlines.append(lambda point=(place, height): self._around(point))
                if chart.labels:
                    self._annotate(chart.value_text(number), (place, height), (0, 0.9 * look.em))
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
            self._beside(key, way)

    def _beside(self, text: str, way: tuple[float, float]) -> None:
        """A text outside the circle, its near side towards the slice."""
        side = "left" if way[0] >= 0 else "right"
        label = self.axes.annotate(
            text, (1.08 * way[0], 1.08 * way[1]), ha=side, va="center", fontproperties=self.font,
            color=self.ink, annotation_clip=False,
        )  # fmt: skip
        self._write(label)
