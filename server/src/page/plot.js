// Lines over time as SVG: axes, a legend that hides lines, and the values under the pointer.

import { clock, seriesName, shortNumber, ticks } from "/ui/values.js";

const WIDTH = 1000;
const HEIGHT = 320;
const LEFT = 70;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 26;
/** Lines drawn; more are only in the table. */
const LINES_MAX = 30;
// Okabe and Ito's colours, which most colour-blind readers can tell apart, then lighter turns.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#7b61c9"];

function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Runs of finite points: a gap of more than three steps, or NaN, breaks the line. */
function runs(points, step) {
  const found = [];
  let run = [];
  for (const [index, point] of points.entries()) {
    const gap = index > 0 && step > 0 && point[0] - points[index - 1][0] > 3 * step;
    if (gap || !Number.isFinite(point[1])) {
      if (run.length) found.push(run);
      run = [];
    }
    if (Number.isFinite(point[1])) run.push(point);
  }
  if (run.length) found.push(run);
  return found;
}

/**
 * Draws `lines` (`[{metric, points: [[seconds, number]]}]`) into `place`.
 * @param {{start: number, end: number, step: number}} window seconds
 */
export function plot(place, lines, window) {
  const drawn = lines.slice(0, LINES_MAX).map((line, index) => ({
    ...line, colour: COLOURS[index % COLOURS.length], on: true,
  }));
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Values over time" });
  const legend = document.createElement("ul");
  legend.className = "legend";
  place.append(svg, legend);
  if (lines.length > drawn.length) {
    const note = document.createElement("p");
    note.textContent = `${drawn.length} of ${lines.length} series are drawn; the table has all.`;
    place.append(note);
  }
  let pointer = null;
  const x = (seconds) => LEFT + (seconds - window.start) / (window.end - window.start || 1) * (WIDTH - LEFT - RIGHT);

  function draw() {
    svg.replaceChildren();
    const on = drawn.filter((line) => line.on);
    const values = on.flatMap((line) => line.points.map((point) => point[1])).filter(Number.isFinite);
    let low = values.reduce((a, b) => Math.min(a, b), Infinity);
    let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!values.length) [low, high] = [0, 1];
    if (low > 0 && low < high / 2) low = 0;
    if (low === high) [low, high] = [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
    const y = (value) => TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
    for (const value of ticks(low, high, 5)) {
      svg.append(shape("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
      const text = shape("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" });
      text.textContent = shortNumber(value);
      svg.append(text);
    }
    const long = window.end - window.start > 86400;
    for (let part = 0; part <= 5; part += 1) {
      const seconds = window.start + (window.end - window.start) * part / 5;
      const anchor = part === 0 ? "start" : part === 5 ? "end" : "middle";
      const text = shape("text", { x: x(seconds), y: HEIGHT - 8, "text-anchor": anchor });
      text.textContent = clock(seconds, long);
      svg.append(text);
    }
    for (const line of on) {
      for (const run of runs(line.points, window.step)) {
        if (run.length === 1) {
          svg.append(shape("circle", { cx: x(run[0][0]), cy: y(run[0][1]), r: 2, fill: line.colour }));
        } else {
          const points = run.map(([seconds, value]) => `${x(seconds).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
          svg.append(shape("polyline", { points, fill: "none", stroke: line.colour, "stroke-width": 1.5 }));
        }
      }
    }
    if (pointer !== null) {
      svg.append(shape("line", { class: "cursor", x1: x(pointer), x2: x(pointer), y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    drawLegend();
  }

  function drawLegend() {
    legend.replaceChildren(...drawn.map((line) => {
      const item = document.createElement("li");
      item.classList.toggle("off", !line.on);
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = line.colour;
      const name = document.createElement("span");
      name.textContent = seriesName(line.metric);
      const value = document.createElement("span");
      value.className = "value";
      const at = pointer === null ? line.points.at(-1) : nearest(line.points, pointer);
      value.textContent = at ? shortNumber(at[1]) : "";
      item.append(swatch, name, value);
      item.addEventListener("click", () => {
        line.on = !line.on;
        draw();
      });
      return item;
    }));
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * WIDTH;
    const share = Math.min(Math.max((at - LEFT) / (WIDTH - LEFT - RIGHT), 0), 1);
    pointer = window.start + share * (window.end - window.start);
    draw();
  });
  svg.addEventListener("pointerleave", () => {
    pointer = null;
    draw();
  });
  draw();
}

/** The last point at or before `seconds`; the first when there is none. */
function nearest(points, seconds) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= seconds) low = middle + 1;
    else high = middle;
  }
  return points[Math.max(low - 1, 0)];
}
