// The tables of a portfolio's own view.

import { element } from "./dom.js";
import { percent } from "./format.js";

const METHODS = {
  historical: "historical",
  normal: "normal",
  student_t: "Student t",
  student_t_fitted: "Student t, fitted",
  cornish_fisher: "Cornish-Fisher",
  ewma: "EWMA",
  fhs: "filtered historical",
  age_weighted: "age-weighted",
};

/** VaR and expected shortfall by each method, one period ahead. */
export function methodsTable(measure) {
  const rows = new Map([
    [
      "historical",
      { 0.95: [measure.var_95, measure.es_95], 0.99: [measure.var_99, measure.es_99] },
    ],
  ]);
  for (const {
    method,
    confidence,
    horizon,
    var: value,
    es,
    domain_ok: isValid,
  } of measure.estimates ?? []) {
    if (horizon !== 1) continue;
    if (!rows.has(method)) rows.set(method, {});
    rows.get(method)[confidence] ??= [value, es, isValid];
  }
  const cells = [...rows].map(([method, found]) => [
    METHODS[method] ?? method,
    ...[0.95, 0.99].flatMap((level) => [percent(found[level]?.[0]), percent(found[level]?.[1])]),
  ]);
  return table(["Method", "VaR 95 %", "ES 95 %", "VaR 99 %", "ES 99 %"], cells);
}

/** The backtests of the model: exceptions against those to be expected. */
export function testsTable(measure) {
  const rows = (measure.model_backtests ?? []).map((test) => [
    `VaR ${percent(test.confidence, 0)}`,
    String(test.observations),
    String(test.exceptions),
    (test.observations * (1 - test.confidence)).toFixed(1),
    element("span", { class: "zone", "data-zone": test.zone }, test.zone),
    test.kupiec_p.toFixed(2),
  ]);
  if (rows.length === 0) return element("p", { class: "empty" }, "No day has had a forecast yet.");
  return table(["Forecast", "Days", "Exceptions", "Expected", "Zone", "Kupiec p"], rows);
}

/** Make a table; the first column names the rows. */
export function table(head, rows) {
  const heads = head.map((text) => element("th", { scope: "col" }, text));
  const lines = rows.map(([name, ...cells]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      ...cells.map((cell) => element("td", {}, cell)),
    ),
  );
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...lines),
  );
}

/** A box with a scroll bar of its own, which the keyboard reaches. */
export function scrollable(label, ...children) {
  return element(
    "div",
    { class: "scroll", role: "region", "aria-label": label, tabindex: 0 },
    ...children,
  );
}

/** Something to unfold. */
export function details(title) {
  return element("details", {}, element("summary", {}, title), scrollable(title));
}
