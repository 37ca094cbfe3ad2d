// What the page's charts share: axes in the page's colours, days in UTC, and a horizontal limit.

import uPlot from "/assets/vendor/uPlot.esm.js";
import { css } from "./dom.js";

/** The options that every chart has. */
export function plotOptions(root) {
  const line = css("--line");
  const axis = {
    stroke: css("--quiet"),
    grid: { stroke: line, width: 1 },
    ticks: { stroke: line },
  };
  return {
    width: root.clientWidth || 300,
    height: root.clientHeight || 300,
    legend: { show: false },
    axes: [
      { ...axis },
      { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => `${+tick.toFixed(2)} %`) },
    ],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
  };
}

/** Draw a dashed line across a plot at a height, with words at its right end. */
export function drawLevel(plot, level, words, colour) {
  if (!Number.isFinite(level)) return;
  const { ctx, bbox } = plot;
  const y = plot.valToPos(level, "y", true);
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.textBaseline = "bottom";
  ctx.fillText(words, bbox.left + bbox.width - 4, y - 2 * devicePixelRatio);
  ctx.restore();
}

/** Rebuild a chart when the colours change, and fit it when its place does. */
export function keepFitting(root, { plot, rebuild }) {
  new ResizeObserver(() => {
    const present = plot();
    const { clientWidth: width, clientHeight: height } = root;
    if (present && width && (width !== present.width || height !== present.height)) {
      present.setSize({ width, height });
    }
  }).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);
}

export { uPlot };
