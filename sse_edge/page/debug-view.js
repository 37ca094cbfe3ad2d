// The debug view: a stream frame by frame, dropped and resumed, with a proof that this was exact.

import { Account } from "./account.js";
import { Connection } from "./connection.js";
import { $, element, setText, syncChildren, throttled } from "./dom.js";
import { FramesView } from "./frames-view.js";
import { HEARTBEAT_S, healthOf } from "./health.js";
import { pathOf, snippet } from "./snippets.js";

const DRAW_MS = 200;
const EXPLAIN_MS = 1_000;
const AWAY_MS = 3_000; // how long a dropped connection stays away, so that it misses something
const SETTLED_MS = 4_000; // how long after that the account is complete
const AGO_MS = { minute: 60_000, hour: 3_600_000 };

export class DebugView {
  #api;
  #session;
  #channels = null;
  #stream = null; // what was asked for
  #connection = null;
  #witness = null;
  #account = null;
  #frames = new FramesView((id) => this.#explained(id));
  #position = null;
  #language = "curl";
  #caughtUp = 0;
  #isAway = false;
  #backMs = Infinity;
  #stoppedAt = ""; // the last id of the stream that was stopped, until another one is asked for
  #draw = throttled(DRAW_MS, () => this.#redraw());
  #explain = throttled(EXPLAIN_MS, () => this.#loadPosition());

  constructor(api, session) {
    this.#api = api;
    this.#session = session;
    $("debug-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#follow();
    });
    $("debug-stop").addEventListener("click", () => this.close());
    $("debug-drop").addEventListener("click", () => this.#drop());
    $("debug-copy").addEventListener("click", () => this.#copy());
    $("debug-form").addEventListener("change", () => {
      this.#stoppedAt = "";
      this.#suggest();
    });
    for (const button of document.querySelectorAll("[data-language]")) {
      button.addEventListener("click", () => this.#speak(button.dataset.language));
    }
  }

  /** Show the view: ask for the channels, once. */
  async open() {
    if (this.#channels !== null) return;
    this.#channels = await this.#api.get("/api/v1/sse/channels").catch(() => null);
    const names = (this.#channels ?? []).map(({ channel }) => channel);
    const options = names.map((name) => element("option", { value: name }, name));
    $("debug-channel").replaceChildren(...options);
    this.#suggest();
  }

  /** Close the connections. */
  close() {
    this.#stoppedAt = this.#connection?.lastId || this.#stoppedAt;
    this.#connection?.close();
    this.#witness?.close();
    this.#connection = this.#witness = null;
    $("debug-stop").disabled = $("debug-drop").disabled = true;
  }

  /** Name the channel's events and entity parameter, where they may be typed. */
  #suggest() {
    const found = this.#channel();
    $("debug-entity").placeholder = found?.entity_parameter ?? "all";
    $("debug-events").placeholder = found?.events.join(",") ?? "all";
    $("debug-cursor").parentElement.hidden = $("debug-from").value !== "cursor";
    this.#redraw();
  }

  #channel() {
    return this.#channels?.find(({ channel }) => channel === $("debug-channel").value);
  }

  #asked() {
    const start = $("debug-from").value;
    const agoMs = AGO_MS[start];
    return {
      channel: $("debug-channel").value,
      parameter: this.#channel()?.entity_parameter ?? "entity_id",
      entity: $("debug-entity").value.trim(),
      events: $("debug-events").value.replaceAll(" ", ""),
      from: agoMs ? new Date(this.#api.now() - agoMs).toISOString() : start.replace("cursor", ""),
      cursor: start === "cursor" ? $("debug-cursor").value.trim() : "",
    };
  }

  #follow() {
    this.close();
    this.#stoppedAt = "";
    this.#stream = this.#asked();
    this.#frames.clear();
    this.#account = this.#position = null;
    this.#caughtUp = 0;
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

  #path() {
    const path = pathOf(this.#stream);
    return `${path}${path.includes("?") ? "&" : "?"}heartbeat=${HEARTBEAT_S}`;
  }

  /** Cut the connection for a while. Before, a witness begins to follow the same stream. */
  #drop() {
    const connection = this.#connection;
    if (!connection?.lastId || this.#isAway) return;
    if (this.#witness === null) {
      this.#account = new Account();
      this.#witness = new Connection(this.#path(), {
        session: this.#session,
        lastId: connection.lastId,
        onFrame: (frame) => this.#note(frame, "witness"),
      });
      this.#witness.open();
    }
    this.#isAway = true;
    this.#backMs = Infinity;
    $("debug-drop").disabled = true;
    connection.drop();
    setTimeout(() => {
      this.#isAway = false;
      if (connection !== this.#connection) return;
      this.#backMs = performance.now();
      $("debug-drop").disabled = false;
      connection.open();
    }, AWAY_MS);
  }

  #onFrame(frame) {
    this.#frames.add(frame);
    if (this.#account !== null) this.#note(frame, "receive");
    if (frame.id !== null) this.#explain();
    this.#draw();
  }

  #note(frame, side) {
    if (frame.data === null || frame.id === null) return; // no event of the log
    this.#account[side](`${frame.event} ${frame.data}`, performance.now());
    if (side === "witness" && this.#isAway) this.#caughtUp += 1;
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

  #redraw() {
    this.#frames.update();
    const facts = [...this.#streamFacts(), ...this.#accountFacts()];
    syncChildren(
      $("debug-account"),
      facts,
      ([name]) => name,
      ([name]) => element("div", {}, element("dt", {}, name), element("dd")),
      (made, [name, value, verdict]) => {
        made.dataset.verdict = verdict ?? "";
        made.dataset.fact = name;
        setText(made.lastElementChild, value);
      },
    );
    this.#showSnippet();
  }

  #streamFacts() {
    const partitions = this.#position?.topics.flatMap((topic) => topic.partitions);
    const behind = partitions?.reduce((sum, { lag }) => sum + (lag ?? 0), 0);
    return [
      ["state", this.#connection ? healthOf(this.#connection).text : "stopped"],
      ["frames", this.#frames.count.toLocaleString("en")],
      ["bytes", this.#frames.bytes.toLocaleString("en")],
      ["records behind", behind?.toLocaleString("en") ?? "–"],
    ];
  }

  #accountFacts() {
    if (this.#account === null) {
      setText($("debug-verdict"), "");
      return [];
    }
    const { received, witnessed } = this.#account;
    const { missing, twice, pending } = this.#account.result(performance.now());
    const isSettled = performance.now() - this.#backMs > SETTLED_MS;
    setText($("debug-verdict"), isSettled && received > 0 ? verdict(missing + twice === 0) : "");
    if (!isSettled || pending > 0) this.#draw();
    return [
      ["missed while away", this.#caughtUp.toLocaleString("en")],
      ["received since", received.toLocaleString("en")],
      ["seen by the witness", witnessed.toLocaleString("en")],
      ["missing", String(missing), missing ? "bad" : "good"],
      ["twice", String(twice), twice ? "bad" : "good"],
    ];
  }

  #showSnippet() {
    const hasStream = this.#connection !== null || this.#stoppedAt !== "";
    const asked = hasStream ? this.#stream : this.#asked();
    const lastId = this.#connection?.lastId || this.#stoppedAt || asked.cursor;
    const events = asked.events ? asked.events.split(",") : (this.#channel()?.events ?? []);
    const url = location.origin + pathOf(lastId ? { ...asked, from: "" } : asked);
    const hasToken = this.#session.token !== "";
    setText($("snippet"), snippet(this.#language, { url, events, lastId, hasToken }));
  }

  #speak(language) {
    this.#language = language;
    for (const button of document.querySelectorAll("[data-language]")) {
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
      getSelection().selectAllChildren($("snippet")); // the browser forbids it: copy by hand
      setText(button, "Selected");
    }
    setTimeout(() => setText(button, "Copy"), 2_000);
  }
}

const verdict = (isExact) =>
  isExact
    ? "Resumed exactly: the dropped connection has every event of the witness, once."
    : "Not exact: see the counters.";
