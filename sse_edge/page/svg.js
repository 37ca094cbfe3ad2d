// Small pictures: a portfolio's line, the use of a limit, the severity of an alert.

import { lineOf } from "./palette.js";

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A piece of a portfolio's line, in its colour and dash. */
export function swatch(name) {
  const { colour, dash } = lineOf(name);
  const line = svg("line", { x1: 0, y1: 5, x2: 18, y2: 5, "stroke-dasharray": dash.join(" ") });
  line.style.stroke = `var(--c${colour})`;
  return svg("svg", { class: "swatch", viewBox: "0 0 18 10", "aria-hidden": "true" }, line);
}

export const BAR_MAX = 2; // the bar ends at 200 % of the limit

/** Return the widths of a bar in percent of its length: within the limit, and beyond it. */
export function barOf(utilisation) {
  const used = Math.min(BAR_MAX, Math.max(0, utilisation ?? 0));
  const within = (Math.min(used, 1) / BAR_MAX) * 100;
  return { within, beyond: (used / BAR_MAX) * 100 - within };
}

/** A bar of the use of a limit. The limit is a mark in the middle; what exceeds it has its colour. */
export function bar() {
  return svg(
    "svg",
    { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 2, width: 100, height: 6 }),
    svg("rect", { class: "fill", x: 0, y: 2, width: 0, height: 6 }),
    svg("rect", { class: "excess", x: 50, y: 0, width: 0, height: 10 }),
    svg("line", {
      class: "limit",
      x1: 50,
      y1: 0,
      x2: 50,
      y2: 10,
      "vector-effect": "non-scaling-stroke",
    }),
  );
}

/** Let a bar show a share of the limit. */
export function setBar(made, utilisation) {
  const { within, beyond } = barOf(utilisation);
  made.querySelector(".fill").setAttribute("width", within.toFixed(1));
  made.querySelector(".excess").setAttribute("width", beyond.toFixed(1));
}

const SHAPES = {
  critical: "M8 .8 15.2 8 8 15.2 .8 8z", // a diamond
  high: "M8 1.2 15.2 14.4H.8z", // a triangle
  medium: "M2 2h12v12H2z", // a square
  low: "M8 2.5a5.5 5.5 0 1 0 .01 0z", // a circle
};

/** The sign of an alert's severity; `kind` is a severity, or "cleared", "acknowledged" and so on. */
export function sign(kind, label) {
  const shape = SHAPES[kind]
    ? svg("path", { d: SHAPES[kind], fill: "currentColor" })
    : svg("path", { d: "M2 8.5l4 4 8-9", fill: "none", stroke: "currentColor", "stroke-width": 2 });
  const attributes = { class: "severity", viewBox: "0 0 16 16", "data-severity": kind };
  if (label) Object.assign(attributes, { role: "img", "aria-label": label });
  else attributes["aria-hidden"] = "true";
  return svg("svg", attributes, shape);
}
