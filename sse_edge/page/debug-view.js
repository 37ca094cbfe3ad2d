// The debug view: the raw frames of a stream, what their ids stand for, and a proof of the resume.

import { Account } from "./account.js";
import { Connection, dataOf } from "./connection.js";
import { $, element, setText, syncChildren, throttled } from "./dom.js";
import { localTime } from "./format.js";
import { HEARTBEAT_S, healthOf } from "./health.js";
import { pathOf, snippet } from "./snippets.js";

const FRAMES_MAX = 60;
const AT_END_PX = 40;
const DRAW_MS = 200;
const EXPLAIN_MS = 1_000;
const AWAY_MS = 3_000; // how long a dropped connection stays away, so that it misses something
const LANGUAGES = { curl: "curl", javascript: "JavaScript", python: "Python" };
const STARTS = {
  latest: "now",
  earliest: "the oldest record",
  minute: "a minute ago",
  hour: "an hour ago",
  cursor: "a cursor",
};

export class DebugView {
  #api;
  #session;
  #root = $("debug");
  #channels = [];
  #stream = null; // what was asked for
  #connection = null;
  #witness = null;
  #account = null;
  #frames = [];
  #count = 0;
  #bytes = 0;
  #selected = null;
  #position = null;
  #language = "curl";
  #isBuilt = false;
  #caughtUp = 0;
  #away = false;
  #draw = throttled(DRAW_MS, () => this.#redraw());
  #explain = throttled(EXPLAIN_MS, () => this.#loadPosition());

  constructor(api, session) {
    this.#api = api;
    this.#session = session;
  }

  /** Show the view, with a form to choose a stream. */
  async open() {
    if (!this.#isBuilt) {
      this.#isBuilt = true;
      this.#channels = await this.#api.get("/api/v1/sse/channels").catch(() => []);
      this.#build();
    }
  }

  /** Close the connections. */
  close() {
    this.#stop();
  }

  #build() {
    const options = (entries) => entries.map(([value, text]) => element("option", { value }, text));
    const field = (label, input) => element("label", {}, label, input);
    const channels = this.#channels.map(({ channel }) => [channel, channel]);
    const form = element(
      "form",
      { class: "fields", id: "debug-form" },
      field("Channel", element("select", { id: "debug-channel" }, ...options(channels))),
      field(
        "Entity",
        element("input", { id: "debug-entity", size: 14, placeholder: "all", spellcheck: "false" }),
      ),
      field(
        "Events",
        element("input", { id: "debug-events", size: 16, placeholder: "all", spellcheck: "false" }),
      ),
      field(
        "Start at",
        element("select", { id: "debug-from" }, ...options(Object.entries(STARTS))),
      ),
      field("Cursor", element("input", { id: "debug-cursor", size: 22, spellcheck: "false" })),
      element("button", { type: "submit" }, "Follow"),
      element(
        "button",
        {
          type: "button",
          id: "debug-stop",
          class: "quiet",
          disabled: true,
          onclick: () => this.#stop(),
        },
        "Stop",
      ),
      element(
        "button",
        { type: "button", id: "debug-drop", disabled: true, onclick: () => this.#drop() },
        "Drop the connection",
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#follow();
    });
    form.querySelector("#debug-cursor").parentElement.hidden = true;
    form.querySelector("#debug-from").addEventListener("change", (event) => {
      form.querySelector("#debug-cursor").parentElement.hidden = event.target.value !== "cursor";
    });
    form.querySelector("#debug-channel").addEventListener("change", () => this.#suggest());
    const account = element("dl", { class: "account", id: "debug-account" });
    const frames = element(
      "div",
      {
        class: "scroll",
        id: "frames",
        role: "region",
        "aria-label": "Table of frames",
        tabindex: 0,
      },
      element(
        "table",
        {},
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ...["#", "Event", "Kafka time", "Lag", "Bytes", "What"].map((text, at) =>
              element("th", { scope: "col", class: at === 1 || at === 5 ? "left" : null }, text),
            ),
          ),
        ),
        element("tbody", { id: "frame-rows" }),
      ),
    );
    const languages = Object.entries(LANGUAGES).map(([key, text]) =>
      element(
        "button",
        {
          type: "button",
          "aria-pressed": String(key === "curl"),
          "data-language": key,
          onclick: () => this.#speak(key),
        },
        text,
      ),
    );
    const copy = element(
      "button",
      { type: "button", class: "quiet", id: "debug-copy", onclick: () => this.#copy() },
      "Copy",
    );
    this.#root.replaceChildren(
      element(
        "section",
        { class: "card wide", "aria-labelledby": "debug-title" },
        element("h2", { id: "debug-title", tabindex: -1 }, "A stream, byte by byte"),
        element(
          "p",
          { class: "hint" },
          "Follow a channel and see the frames as they come. Then drop the connection: the browser comes back with its last id, and a second connection that was never dropped bears witness that nothing is missing and nothing came twice.",
        ),
        form,
        account,
        element("p", { id: "debug-verdict", role: "status" }),
      ),
      element(
        "section",
        { class: "card", "aria-labelledby": "frames-title" },
        element("h2", { id: "frames-title" }, "Frames"),
        frames,
      ),
      element(
        "section",
        { class: "card", "aria-labelledby": "frame-title" },
        element("h2", { id: "frame-title" }, "The frame"),
        element(
          "pre",
          { id: "frame-raw", tabindex: 0 },
          "Choose a frame to see its bytes, and the position that its id stands for.",
        ),
        element("div", { id: "frame-position", class: "scroll" }),
      ),
      element(
        "section",
        { class: "card wide", "aria-labelledby": "snippet-title" },
        element(
          "div",
          { class: "title" },
          element("h2", { id: "snippet-title" }, "The same in your program"),
          element(
            "div",
            { class: "controls" },
            element(
              "div",
              { class: "switch", role: "group", "aria-label": "Language" },
              ...languages,
            ),
            copy,
          ),
        ),
        element("pre", { id: "snippet", tabindex: 0 }),
      ),
    );
    this.#suggest();
  }

  /** The channel's events and entity parameter, where they may be typed. */
  #suggest() {
    const found = this.#channel();
    $("debug-entity").placeholder = found ? found.entity_parameter : "all";
    $("debug-events").placeholder = found ? found.events.join(",") : "all";
    this.#redraw();
  }

  #channel() {
    return this.#channels.find(({ channel }) => channel === $("debug-channel").value);
  }

  #asked() {
    const start = $("debug-from").value;
    const ago = { minute: 60_000, hour: 3_600_000 }[start];
    return {
      channel: $("debug-channel").value,
      parameter: this.#channel()?.entity_parameter ?? "entity_id",
      entity: $("debug-entity").value.trim(),
      events: $("debug-events").value.replaceAll(" ", ""),
      from: ago ? new Date(Date.now() - ago).toISOString() : start === "cursor" ? "" : start,
      cursor: start === "cursor" ? $("debug-cursor").value.trim() : "",
    };
  }

  #follow() {
    this.#stop();
    this.#stream = this.#asked();
    this.#frames = [];
    this.#count = this.#bytes = this.#caughtUp = 0;
    this.#account = this.#position = this.#selected = null;
    this.#connection = new Connection(this.#path(), {
      session: this.#session,
      lastId: this.#stream.cursor,
      onFrame: (frame) => this.#onFrame(frame),
      onChange: this.#draw,
    });
    this.#connection.open();
    $("debug-stop").disabled = $("debug-drop").disabled = false;
    this.#draw();
  }

  #stop() {
    this.#connection?.close();
    this.#witness?.close();
    this.#connection = this.#witness = null;
    if (this.#isBuilt && $("debug-stop"))
      $("debug-stop").disabled = $("debug-drop").disabled = true;
  }

  #path() {
    const path = pathOf(this.#stream);
    return `${path}${path.includes("?") ? "&" : "?"}heartbeat=${HEARTBEAT_S}`;
  }

  /** Cut the connection for a while. Before, a witness follows the same stream from the last id on. */
  #drop() {
    const connection = this.#connection;
    if (!connection?.lastId || this.#away) return;
    if (!this.#witness) {
      this.#account = new Account();
      this.#witness = new Connection(this.#path(), {
        session: this.#session,
        lastId: connection.lastId,
        onFrame: (frame) => this.#note(frame, "witness"),
      });
      this.#witness.open();
    }
    this.#away = true;
    $("debug-drop").disabled = true;
    connection.drop();
    setTimeout(() => {
      this.#away = false;
      if (connection !== this.#connection) return;
      $("debug-drop").disabled = false;
      connection.open();
    }, AWAY_MS);
  }

  #note(frame, side) {
    if (frame.data === null || frame.id === null) return; // no event of the log
    this.#account[side](`${frame.event} ${frame.data}`, performance.now());
    if (side === "witness" && this.#away) this.#caughtUp += 1;
    this.#draw();
  }

  #onFrame(frame) {
    this.#count += 1;
    this.#bytes += frame.bytes;
    this.#frames.push({ ...frame, number: this.#count, seenMs: Date.now() });
    if (this.#frames.length > FRAMES_MAX) this.#frames.shift();
    if (this.#account) this.#note(frame, "receive");
    if (frame.id !== null) this.#explain();
    this.#draw();
  }

  async #loadPosition() {
    const id = this.#connection?.lastId;
    if (!id) return;
    this.#position = await this.#explained(id).catch(() => null);
    this.#draw();
  }

  #explained(id) {
    const { channel, parameter, entity, events } = this.#stream;
    const query = new URLSearchParams({ id, channel });
    if (entity) query.set(parameter, entity);
    if (events) query.set("events", events);
    return this.#api.get(`/api/v1/sse/cursor?${query}`);
  }

  async #select(frame) {
    this.#selected = frame;
    $("frame-raw").textContent = frame.raw;
    const place = $("frame-position");
    place.replaceChildren();
    this.#redraw();
    if (frame.id === null) {
      place.replaceChildren(
        element(
          "p",
          { class: "hint" },
          "It has no id: it is no event of the log, and moves no cursor.",
        ),
      );
      return;
    }
    try {
      const found = await this.#explained(frame.id);
      if (this.#selected === frame) place.replaceChildren(...positionShown(found, frame.id));
    } catch (error) {
      place.replaceChildren(
        element(
          "p",
          { class: "error" },
          `The id cannot be explained: ${error.detail ?? "the edge does not answer"}.`,
        ),
      );
    }
  }

  #redraw() {
    if (!this.#isBuilt || !$("frame-rows")) return;
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
    this.#showAccount();
    this.#showSnippet();
  }

  #row(frame) {
    const time = timeOf(frame);
    const lag = time === null ? "" : `${Math.max(0, frame.seenMs - Date.parse(time))} ms`;
    const name = frame.isComment ? "(comment)" : frame.data === null ? "(id only)" : frame.event;
    const button = element(
      "button",
      { type: "button", class: "link", onclick: () => this.#select(frame) },
      name,
    );
    const words = frame.data === null ? frame.raw.slice(0, 60) : wordsOf(frame);
    return element(
      "tr",
      { "data-event": name },
      element("td", {}, String(frame.number)),
      element("td", { class: "left" }, button),
      element("td", {}, time ? localTime(time) : ""),
      element("td", {}, lag),
      element("td", {}, String(frame.bytes)),
      element("td", { class: "left" }, words),
    );
  }

  #showAccount() {
    const connection = this.#connection;
    const nowMs = performance.now();
    const behind = this.#position?.topics
      .flatMap((topic) => topic.partitions)
      .reduce((sum, { lag }) => sum + (lag ?? 0), 0);
    const facts = [
      ["state", connection ? healthOf(connection).text : "stopped"],
      ["frames", this.#count.toLocaleString("en")],
      ["bytes", this.#bytes.toLocaleString("en")],
      ["records behind", behind === undefined ? "–" : behind.toLocaleString("en")],
    ];
    const verdict = $("debug-verdict");
    if (this.#account) {
      const { missing, twice, pending } = this.#account.result(nowMs);
      facts.push(
        ["missed while away", this.#caughtUp.toLocaleString("en")],
        ["received since", this.#account.received.toLocaleString("en")],
        ["seen by the witness", this.#account.witnessed.toLocaleString("en")],
        ["missing", String(missing), missing ? "bad" : "good"],
        ["twice", String(twice), twice ? "bad" : "good"],
      );
      const done = !this.#away && pending === 0 && this.#account.received > 0;
      const exact = missing + twice === 0;
      setText(
        verdict,
        !done
          ? ""
          : exact
            ? "Resumed exactly: the dropped connection has every event of the witness, once."
            : "Not exact: see the counters.",
      );
      if (pending > 0) this.#draw();
    } else {
      setText(verdict, "");
    }
    syncChildren(
      $("debug-account"),
      facts,
      ([name]) => name,
      ([name]) => element("div", {}, element("dt", {}, name), element("dd")),
      (made, [name, value, kind]) => {
        made.dataset.verdict = kind ?? "";
        made.dataset.fact = name;
        setText(made.lastElementChild, value);
      },
    );
  }

  #showSnippet() {
    const asked = this.#stream && this.#connection ? this.#stream : this.#asked();
    const lastId = this.#connection?.lastId || asked.cursor;
    const events = asked.events ? asked.events.split(",") : (this.#channel()?.events ?? []);
    const url = location.origin + pathOf(lastId ? { ...asked, from: "" } : asked);
    setText(
      $("snippet"),
      snippet(this.#language, { url, events, lastId, hasToken: this.#session.token !== "" }),
    );
  }

  #speak(language) {
    this.#language = language;
    for (const button of this.#root.querySelectorAll("[data-language]")) {
      button.setAttribute("aria-pressed", String(button.dataset.language === language));
    }
    this.#showSnippet();
  }

  async #copy() {
    const button = $("debug-copy");
    try {
      await navigator.clipboard.writeText($("snippet").textContent);
      setText(button, "Copied");
    } catch {
      getSelection().selectAllChildren($("snippet")); // the browser forbids it: select, to copy by hand
      setText(button, "Selected");
    }
    setTimeout(() => setText(button, "Copy"), 2_000);
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
  const words = [
    data.entity_id ?? data.portfolio_id ?? data.task_id ?? data.backtest_id ?? data.window_id,
    data.state ?? data.status,
    data.message,
  ];
  return words.filter(Boolean).join(" · ").slice(0, 80);
}

function positionShown({ topics, ended }, id) {
  const rows = topics.flatMap(({ topic, partitions, is_present_incarnation: isPresent }) =>
    partitions.map(({ partition, next_offset: next, end_offset: end, lag }) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, `${topic}/${partition}`),
        ...[next, end ?? (isPresent ? "–" : "made anew"), lag ?? "–"].map((value) =>
          element("td", {}, value.toLocaleString("en")),
        ),
      ),
    ),
  );
  const head = ["Partition", "Next offset", "End of the log", "Behind"].map((text) =>
    element("th", { scope: "col" }, text),
  );
  return [
    element(
      "p",
      { class: "hint" },
      "The id ",
      element("code", {}, id),
      ` stands for these offsets${ended ? ", and the stream's end" : ""}; any node resumes from them. A marker of a transaction counts as a record.`,
    ),
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...rows),
    ),
  ];
}
