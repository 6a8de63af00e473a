// Draws echarts options on a canvas and tells where every text and mark of the picture lies.
// Question: {option, width, height, font: path}; the font answers to the family "chart".
// Answer: {png: base64, texts: [{text, corners}], marks: [[[x, y], ...]], plot: [x1, y1, x2, y2] | null}.

import { createInterface } from "node:readline";
import { GlobalFonts, createCanvas } from "@napi-rs/canvas";
import * as echarts from "echarts";

const measuring = createCanvas(8, 8).getContext("2d");
const families = new Map(); // path -> family; a family cannot be given back, so each file has its own

echarts.setPlatformAPI({
  createCanvas: () => createCanvas(8, 8),
  measureText: (text, font) => {
    measuring.font = font;
    return measuring.measureText(text);
  },
});

function family(path) {
  if (!families.has(path)) {
    const name = `chart${families.size}`;
    if (!GlobalFonts.registerFromPath(path, name)) throw new Error(`font ${path} cannot be read`);
    families.set(path, name);
  }
  return families.get(path);
}

function through(transform, [x, y]) {
  if (!transform) return [x, y];
  const [a, b, c, d, e, f] = transform;
  return [a * x + c * y + e, b * x + d * y + f];
}

function corners({ x, y, width, height }) {
  return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
}

function closed(points) {
  return [...points, points[0]];
}

function sector({ cx, cy, r, startAngle, endAngle }) {
  const steps = Array.from({ length: 25 }, (_, i) => startAngle + ((endAngle - startAngle) * i) / 24);
  return [[cx, cy], ...steps.map((angle) => [cx + r * Math.cos(angle), cy + r * Math.sin(angle)])];
}

function line(element) {
  const flat = Array.from(element.shape.points);
  const points = [];
  for (let i = 0; i + 1 < flat.length; i += 2) points.push([flat[i], flat[i + 1]]);
  return points.map((point) => through(element.getComputedTransform(), point));
}

function itemMark(element) {
  const { shape } = element;
  const place = (points) => points.map((point) => through(element.getComputedTransform(), point));
  if (shape?.r !== undefined && shape?.startAngle !== undefined) return place(closed(sector(shape)));
  if (shape?.width !== undefined) return place(closed(corners(shape)));
  return closed(corners(element.getBoundingRect())).map((point) => through(element.getComputedTransform(), point));
}

function marks(chart, shown) {
  const found = shown.filter((element) => element.type === "ec-polyline").map(line);
  for (const series of chart.getModel().getSeries()) {
    if (series.subType === "line") continue; // its points lie on the polyline
    const data = series.getData();
    for (let i = 0; i < data.count(); i++) {
      const element = data.getItemGraphicEl(i);
      if (element) found.push(itemMark(element));
    }
  }
  return found;
}

function draw({ option, width, height, font }) {
  const canvas = createCanvas(width, height);
  const chart = echarts.init(canvas, null, { devicePixelRatio: 1 });
  try {
    const name = family(font);
    chart.setOption({ ...option, animation: false, textStyle: { ...option.textStyle, fontFamily: name } });
    const zr = chart.getZr();
    zr.refreshImmediately();
    const shown = zr.storage.getDisplayList(true).filter((element) => !element.invisible);
    const texts = shown
      .filter((element) => element.type === "tspan" && element.style.text.trim())
      .map((element) => ({
        text: element.style.text,
        corners: corners(element.getBoundingRect()).map((point) => through(element.getComputedTransform(), point)),
      }));
    const wrong = shown.find((element) => element.type === "tspan" && !element.style.font.includes(name));
    if (wrong) throw new Error(`a text in another font: ${wrong.style.font}`);
    const grid = chart.getModel().getComponent("grid");
    const plot = grid ? grid.coordinateSystem.getRect() : null;
    return {
      png: canvas.toBuffer("image/png").toString("base64"),
      texts,
      marks: marks(chart, shown),
      plot: plot && [plot.x, plot.y, plot.x + plot.width, plot.y + plot.height],
    };
  } finally {
    chart.dispose();
  }
}

for await (const question of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(question);
  let answer;
  try {
    answer = draw(asked);
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify({ ...answer, id: asked.id }) + "\n");
}
