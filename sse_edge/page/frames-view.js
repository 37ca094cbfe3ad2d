// The frames of a stream as a table, and the one that was chosen: its bytes and its position.

import { dataOf } from "./connection.js";
import { $, element, syncChildren } from "./dom.js";
import { localTime } from "./format.js";
import { partOf } from "./parts.js";

const FRAMES_MAX = 60;
const AT_END_PX = 40;

export class FramesView {
  #frames = [];
  #selected = null;
  #explain;
  count = 0;
  bytes = 0;

  /** @param {(id: string) => Promise<object>} explain asks the edge what an id stands for */
  constructor(explain) {
    this.#explain = explain;
  }

  /** Forget the frames so far. */
  clear() {
    this.#frames = [];
    this.#selected = null;
    this.count = this.bytes = 0;
  }

  /** Take a frame in; `update` shows it. */
  add(frame) {
    this.count += 1;
    this.bytes += frame.bytes;
    this.#frames.push({ ...frame, number: this.count, seenMs: Date.now() });
    if (this.#frames.length > FRAMES_MAX) this.#frames.shift();
  }

  /** Show the frames; the list follows its end, unless somebody reads further up. */
  update() {
    const list = $("frames");
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < AT_END_PX;
    syncChildren(
      $("frame-rows"),
      this.#frames,
      (frame) => String(frame.number),
      (frame) => this.#row(frame),
      (row, frame) => row.setAttribute("aria-selected", String(frame === this.#selected)),
    );
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  #row(frame) {
    const time = timeOf(frame);
    const name = frame.isComment ? "(comment)" : frame.data === null ? "(id only)" : frame.event;
    const choose = () => this.#select(frame);
    const button = element("button", { type: "button", class: "link", onclick: choose }, name);
    const cells = [
      String(frame.number),
      button,
      time ? localTime(time) : "",
      time ? `${Math.max(0, frame.seenMs - Date.parse(time))} ms` : "",
      String(frame.bytes),
      frame.data === null ? frame.raw.slice(0, 60) : wordsOf(frame),
    ];
    const row = cells.map((cell) =>
      element("td", { class: cell === button ? "left" : null }, cell),
    );
    row.at(-1).className = "left";
    return element("tr", { "data-event": name }, ...row);
  }

  async #select(frame) {
    this.#selected = frame;
    $("frame-raw").textContent = frame.raw;
    const place = $("frame-position");
    place.replaceChildren();
    this.update();
    const say = (words, kind) => place.replaceChildren(element("p", { class: kind }, words));
    if (frame.id === null) {
      say("It has no id: it is no event of the log, and moves no cursor.", "hint");
      return;
    }
    try {
      const found = await this.#explain(frame.id);
      if (this.#selected === frame) place.replaceChildren(...positionShown(found, frame.id));
    } catch (error) {
      say(`The id cannot be explained: ${error.detail ?? "the edge does not answer"}.`, "error");
    }
  }
}

/** The log's time of an event of the MyStocks dialect. */
function timeOf(frame) {
  if (frame.data === null || frame.id === null) return null;
  try {
    return JSON.parse(frame.data).timestamp ?? null;
  } catch {
    return null;
  }
}

function wordsOf(frame) {
  const data = dataOf(frame) ?? {};
  const envelope = partOf(frame);
  const words = [
    envelope && `part ${envelope.part} of ${envelope.parts}`,
    data.entity_id ?? data.portfolio_id ?? data.task_id ?? data.backtest_id ?? data.window_id,
    data.state ?? data.status,
    data.message,
  ];
  return words.filter(Boolean).join(" · ").slice(0, 80);
}

function positionShown({ topics, ended }, id) {
  const rows = topics.flatMap(({ topic, partitions, is_present_incarnation: isPresent }) =>
    partitions.map(({ partition, next_offset: next, end_offset: end, lag }) => {
      const values = [next, end ?? (isPresent ? "–" : "made anew"), lag ?? "–"];
      const cells = values.map((value) => element("td", {}, value.toLocaleString("en")));
      return element("tr", {}, element("th", { scope: "row" }, `${topic}/${partition}`), ...cells);
    }),
  );
  const head = ["Partition", "Next offset", "End of the log", "Behind"].map((text) =>
    element("th", { scope: "col" }, text),
  );
  const end = ended ? ", and the stream's end" : "";
  const words = ` stands for these offsets${end}; any node resumes from them.`;
  const hint = " A marker of a transaction counts as a record.";
  return [
    element("p", { class: "hint" }, "The id ", element("code", {}, id), words, hint),
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...rows),
    ),
  ];
}
