// The page's pure modules, in Node: `node --test tests/page`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Account } from "../../sse_edge/page/account.js";
import { AlertBook } from "../../sse_edge/page/alerts.js";
import { duration, inPercent, metricName, number, percent } from "../../sse_edge/page/format.js";
import { SILENCE_MS_MAX, healthOf } from "../../sse_edge/page/health.js";
import { limitHistory } from "../../sse_edge/page/limits.js";
import { MeasureBook } from "../../sse_edge/page/measures.js";
import { lineOf } from "../../sse_edge/page/palette.js";
import { joined, partOf } from "../../sse_edge/page/parts.js";
import { RateMeter } from "../../sse_edge/page/rate.js";
import { pathOf, snippet } from "../../sse_edge/page/snippets.js";
import { SseParser } from "../../sse_edge/page/sse-parser.js";
import { barOf } from "../../sse_edge/page/svg.js";

const bytes = (text) => new TextEncoder().encode(text);

test("a stream gives the same frames wherever its bytes are cut", () => {
    const text =
        'event: connected\nretry: 2500\ndata: {"ä": 1}\n\n:\n: ping\nid: AX_-1\n\nevent: a\ndata: 1\ndata: 2\nid: AX_-2\n\n';
    const whole = new SseParser().feed(bytes(text));
    assert.deepEqual(
        whole.map(({ event, data, id, retry, isComment }) => [event, data, id, retry, isComment]),
        [
            ["connected", '{"ä": 1}', null, 2500, false],
            ["message", null, null, null, true],
            ["message", null, null, null, true],
            ["message", null, "AX_-1", null, false],
            ["a", "1\n2", "AX_-2", null, false],
        ],
    );
    assert.equal(
        whole.reduce((sum, frame) => sum + frame.bytes, 0),
        bytes(text).length,
    );
    for (let size = 1; size < 8; size += 1) {
        const parser = new SseParser();
        const raw = bytes(text);
        const frames = [];
        for (let at = 0; at < raw.length; at += size)
            frames.push(...parser.feed(raw.slice(at, at + size)));
        assert.deepEqual(frames, whole);
    }
});

test("a stream with other line ends is read alike", () => {
    const parser = new SseParser();
    const frames = [
        ...parser.feed(bytes("data: 1\r")),
        ...parser.feed(bytes("\nid: x\r\n\r\ndata: 2\r\r")),
    ];
    frames.push(...parser.feed(bytes("data: 3\n\n")));
    assert.deepEqual(
        frames.map((frame) => frame.data),
        ["1", "2", "3"],
    );
});

test("a connection that is silent for two heartbeats is stale, whatever it says of itself", () => {
    const open = { phase: "open", silentMs: SILENCE_MS_MAX - 1 };
    assert.equal(healthOf(open).state, "live");
    assert.equal(healthOf({ ...open, silentMs: SILENCE_MS_MAX + 1 }).state, "stale");
    assert.equal(healthOf({ phase: "connecting", silentMs: 60_000 }).state, "stale");
    assert.match(healthOf({ ...open, silentMs: 25_000 }).text, /25 s/);
});

test("what is wrong is said in words", () => {
    const refused = (status, detail) =>
        healthOf({ phase: "refused", status, detail, retryInMs: 30_000, silentMs: 0 });
    assert.equal(refused(401, "a token is required").state, "signin");
    assert.match(
        refused(429, "127.0.0.1 holds 100").text,
        /Too many.*127\.0\.0\.1 holds 100.*30 s/,
    );
    assert.match(refused(403, "another user's").text, /not yours/);
    assert.match(
        healthOf({ phase: "unavailable", reason: "no_broker", silentMs: 0 }).text,
        /Kafka/,
    );
    assert.match(healthOf({ phase: "offline", silentMs: 0 }).text, /No connection/);
});

test("a rate falls to zero", () => {
    const meter = new RateMeter();
    for (let at = 0; at < 1000; at += 100) meter.add(at);
    assert.equal(meter.value(1000), 2);
    assert.equal(meter.value(5400), 1);
    assert.equal(meter.value(6000), 0);
});

const alert = (id, state, at, more = {}) => ({
    alert_id: id,
    transition_id: `${id}/${state}`,
    entity_id: "growth",
    state,
    severity: "high",
    message: "VaR exceeded threshold: 0.0612 > 0.0500",
    as_of: "2008-10-10T20:00:00Z",
    ...more,
});

test("alerts open and close by their transitions, in whatever order view and stream bring them", () => {
    const book = new AlertBook();
    book.load([
        { ...alert("a", "raised"), acknowledged: false, changed_at: "2026-01-01T10:00:00.000Z" },
    ]);
    book.add(alert("a", "raised"), "2026-01-01T10:00:00.000Z");
    book.add(alert("b", "cleared"), "2026-01-01T10:00:09.000Z");
    book.add(alert("b", "raised"), "2026-01-01T10:00:05.000Z"); // of a replay: it is older
    assert.deepEqual(
        book.groups.map((group) => group.alerts.map((entry) => entry.alert_id)),
        [["a"]],
    );
    book.add(alert("a", "cleared"), "2026-01-01T10:00:10.000Z");
    assert.deepEqual(book.groups, []);
    assert.deepEqual(
        book.recent.map((event) => [event.alert_id, event.state]),
        [
            ["a", "cleared"],
            ["b", "cleared"],
            ["b", "raised"],
            ["a", "raised"],
        ],
    );
});

test("an acknowledged alert stays open, and keeps the words of its cause", () => {
    const book = new AlertBook();
    book.add(alert("a", "raised"), "1");
    book.add(alert("a", "acknowledged", "2", { message: "acknowledged: hedging" }), "2");
    const [
        {
            alerts: [entry],
        },
    ] = book.groups;
    assert.equal(entry.acknowledged, true);
    assert.equal(entry.comment, "hedging");
    assert.match(entry.message, /exceeded/);
    book.add(alert("a", "acknowledged", "2", { message: "acknowledged: hedging" }), "2");
    assert.equal(book.recent.length, 2);
});

test("groups begin with the most severe alert, and are counted", () => {
    const book = new AlertBook();
    book.add(alert("a", "raised", "1", { entity_id: "z", severity: "low" }), "1");
    book.add(alert("b", "raised", "1", { entity_id: "z", severity: "critical" }), "1");
    book.add(alert("c", "raised", "1", { entity_id: "a", severity: "medium" }), "1");
    assert.deepEqual(
        book.groups.map((group) => group.portfolio),
        ["z", "a"],
    );
    assert.deepEqual(book.counts, { critical: 1, high: 0, medium: 1, low: 1 });
});

test("the forecast for a day is the VaR as of the day before", () => {
    const book = new MeasureBook();
    const newest = {
        portfolio_id: "p",
        as_of: "2020-01-03T20:00:00Z",
        var_95: 0.03,
        threshold: 0.06,
        utilisation: 0.5,
    };
    book.load(
        [newest],
        [
            {
                portfolio_id: "p",
                days: ["2020-01-01", "2020-01-02", "2020-01-03"],
                var_95: [null, 0.01, 0.02],
            },
        ],
    );
    const [days, values] = book.columns(["p"], "var");
    assert.deepEqual(
        days,
        ["2020-01-01", "2020-01-02", "2020-01-03"].map((day) => Date.parse(day) / 1000),
    );
    assert.deepEqual(values, [1, 2, 3]);
    assert.deepEqual(book.columns(["p"], "utilisation")[1].map(Math.round), [17, 33, 50]);
});

test("an older measure does not replace a newer one", () => {
    const book = new MeasureBook();
    book.add(
        { portfolio_id: "p", as_of: "2020-01-03T20:00:00Z", var_95: 0.03, utilisation: 1.2 },
        "2026-01-01T00:00:02Z",
    );
    book.add(
        { portfolio_id: "p", as_of: "2020-01-02T20:00:00Z", var_95: 0.01, utilisation: 0.4 },
        "2026-01-01T00:00:01Z",
    );
    assert.equal(book.of("p").var_95, 0.03);
    assert.equal(book.overLimit, 1);
    assert.equal(book.asOf, "2020-01-03T20:00:00Z");
});

test("a history that begins anew ends the old line", () => {
    const book = new MeasureBook();
    const add = (day, value, at) =>
        book.add({ portfolio_id: "p", as_of: `${day}T20:00:00Z`, var_95: value }, at);
    add("2013-02-28", 0.03, "1");
    add("2013-03-01", 0.04, "2");
    add("2000-03-02", 0.01, "3");
    add("2013-02-27", 0.02, "1"); // a replay brings an old one of the lap before
    assert.deepEqual(book.columns(["p"], "var"), [[Date.parse("2000-03-02") / 1000], [1]]);
    assert.equal(book.of("p").var_95, 0.01);
});

test("while a demo begins again, portfolios of the lap before do not say what day it is", () => {
    const book = new MeasureBook();
    const add = (name, day, lap, at) =>
        book.add(
            {
                portfolio_id: name,
                as_of: `${day}T20:00:00Z`,
                event_id: `measure:${name}:${day}T20:00:00Z/1${lap ? `/lap-${lap}` : ""}`,
                var_95: 0.02,
            },
            at,
        );
    add("early", "2013-03-01", 9, "1");
    add("late", "2013-03-01", 9, "1");
    add("early", "2000-03-02", 10, "2");
    assert.equal(book.asOf, "2000-03-02T20:00:00Z");
    assert.deepEqual(book.columns(["early", "late"], "var"), [
        [Date.parse("2000-03-02") / 1000],
        [2],
        [null],
    ]);
    add("late", "2000-03-03", 10, "3");
    assert.equal(book.asOf, "2000-03-03T20:00:00Z");
});

test("a portfolio's line depends on its name alone, and the demo's nine have nine colours", () => {
    const names = [
        "AAPL",
        "FB",
        "GOOG",
        "IBM",
        "MSFT",
        "equal-weight",
        "growth",
        "balanced",
        "value",
    ];
    assert.equal(new Set(names.map((name) => lineOf(name).colour)).size, names.length);
    assert.deepEqual(lineOf("growth"), lineOf("growth"));
    const many = Array.from({ length: 2_000 }, (_, at) => lineOf(`portfolio-${at}`));
    const counts = new Map();
    for (const { colour, dash } of many)
        counts.set(`${colour}/${dash}`, (counts.get(`${colour}/${dash}`) ?? 0) + 1);
    assert.equal(counts.size, 36);
    assert.ok(Math.max(...counts.values()) < 2 * (many.length / 36));
});

test("101 % and 134 % of a limit look different", () => {
    assert.deepEqual(barOf(0.5), { within: 25, beyond: 0 });
    assert.equal(barOf(1.01).within, 50);
    assert.ok(barOf(1.34).beyond - barOf(1.01).beyond > 15);
    assert.deepEqual(barOf(3), { within: 50, beyond: 50 });
    assert.deepEqual(barOf(null), { within: 0, beyond: 0 });
});

test("numbers are percentages, and missing ones are a dash", () => {
    assert.equal(
        inPercent("VaR exceeded threshold: 0.0612 > 0.0500"),
        "VaR exceeded threshold: 6.12 % > 5.00 %",
    );
    assert.equal(
        inPercent("12 exceptions in 250 days, and 9 may be"),
        "12 exceptions in 250 days, and 9 may be",
    );
    assert.equal(percent(null), "–");
    assert.equal(percent(1.344, 0), "134 %");
    assert.deepEqual([300, 12_300, 240_000, 7_300_000].map(duration), [
        "0.3 s",
        "12 s",
        "4 min",
        "2 h",
    ]);
    assert.equal(metricName("var_99"), "VaR 99 %");
    assert.equal(number(0.12345), "0.123");
});

test("past limits come from transitions, the present one from the newest measure", () => {
    const at = (day, threshold) => ({ metric_name: "var_95", threshold, as_of: day });
    const transitions = [
        at("2020-01-01", 0.05),
        at("2020-02-01", 0.05),
        at("2020-03-01", 0.04),
        { metric_name: "age_s", threshold: 60 },
    ];
    const found = limitHistory(transitions, { threshold: 0.04, as_of: "2020-04-01" });
    assert.deepEqual(
        found.map(({ limit, since, isNow, alerts }) => [limit, since, isNow, alerts]),
        [
            [0.04, "2020-03-01", true, 1],
            [0.05, "2020-01-01", undefined, 2],
        ],
    );
});

test("an account finds what is missing and what came twice, and waits for what is under way", () => {
    const account = new Account();
    for (const event of ["a", "b", "c"]) account.witness(event, 0);
    for (const event of ["a", "b", "b"]) account.receive(event, 100);
    assert.deepEqual(account.result(200), { missing: 0, twice: 0, pending: 2 });
    assert.deepEqual(account.result(9_000), { missing: 1, twice: 1, pending: 0 });
    account.receive("c", 9_100);
    assert.equal(account.result(20_000).missing, 0);
});

test("a stream is copied as curl, JavaScript and Python", () => {
    const path = pathOf({
        channel: "alerts",
        parameter: "entity_id",
        entity: "a b",
        events: "risk_alert",
        from: "earliest",
    });
    assert.equal(path, "/api/v1/sse/alerts?entity_id=a+b&events=risk_alert&from=earliest");
    const stream = {
        url: `http://localhost:8000${path}`,
        events: ["risk_alert"],
        lastId: "AXRg",
        hasToken: true,
    };
    for (const [language, words] of [
        ["curl", ["curl -N", "Last-Event-ID: AXRg", "$TOKEN", path]],
        ["javascript", ["new EventSource", "last_event_id", "risk_alert"]],
        ["python", ["connect_sse", '"Last-Event-ID": "AXRg"', path]],
    ]) {
        for (const word of words)
            assert.ok(snippet(language, stream).includes(word), `${language}: ${word}`);
    }
});

const HORIZONS = Array.from({ length: 25 }, (_, at) => ({ horizon: at + 1 }));

/** A measure in parts, as an edge sends it: only the last part has an id. */
const measureInParts = (id, parts = 3) =>
    Array.from({ length: parts }, (_, at) => {
        const rows = HORIZONS.slice((at * 25) / parts, ((at + 1) * 25) / parts);
        const data = { portfolio_id: "p", var_95: 0.02, estimates: rows, model_backtests: [] };
        const envelope = { event: "risk_measure", data, timestamp: "t", part: at + 1, parts };
        return {
            event: "risk_measure",
            data: JSON.stringify(envelope),
            id: at + 1 === parts ? id : null,
        };
    });

function seenOf(frames) {
    const seen = [];
    const take = joined((frame) => seen.push(frame));
    for (const frame of frames) take(frame);
    return seen;
}

test("an event in parts is one event with all rows, and the last part's id", () => {
    const [whole, ...others] = seenOf(measureInParts("AX_1"));
    assert.deepEqual(others, []);
    assert.equal(whole.id, "AX_1");
    const { data, timestamp } = JSON.parse(whole.data);
    assert.equal(timestamp, "t");
    assert.deepEqual(data, {
        portfolio_id: "p",
        var_95: 0.02,
        estimates: HORIZONS,
        model_backtests: [],
    });
});

test("a connection that is lost between two parts gives no half of an event, and none twice", () => {
    const parts = measureInParts("AX_1");
    for (let lost = 0; lost < parts.length; lost += 1) {
        const seen = seenOf([...parts.slice(0, lost), ...parts, ...measureInParts("AX_2", 2)]);
        assert.deepEqual(
            seen.map(({ id, data }) => [id, JSON.parse(data).data.estimates]),
            [
                ["AX_1", HORIZONS],
                ["AX_2", HORIZONS],
            ],
        );
    }
    assert.deepEqual(seenOf(parts.slice(1)), []);
});

test("what is in no parts passes as it came, also a book that has parts of its own", () => {
    const book = { event: "book_risk", data: { parts: [{ part_id: "a", part: 1 }] }, timestamp: "t" };
    const frames = [
        { event: "message", data: null, id: "AX_1" },
        { event: "book_risk", data: JSON.stringify(book), id: "AX_2" },
        { event: "note", data: 'no JSON, and "parts"', id: null },
        { event: "note", data: 'null or "parts"', id: null },
    ];
    assert.deepEqual(seenOf(frames), frames);
    assert.deepEqual(frames.map(partOf), [null, null, null, null]);
});

test("programs that follow measures or books join parts as the guides do", () => {
    const program = (language, name) =>
        snippet(language, { url: "http://localhost:8000/x", events: [name], lastId: "" });
    for (const [language, guide, begin, end] of [
        ["javascript", "browser", "const before", undefined],
        ["python", "python", "before = []", "\n\nheaders"],
    ]) {
        const page = readFileSync(new URL(`../../docs/guides/${guide}.md`, import.meta.url), "utf8");
        for (const name of ["book_risk", "risk_measure"]) {
            const text = program(language, name);
            const code = text.slice(text.indexOf(begin), end ? text.indexOf(end) : undefined);
            assert.ok(code.includes("joined(event)") && page.includes(code), code);
        }
        assert.ok(!program(language, "risk_alert").includes("joined"));
    }
});

test("the JavaScript that is copied prints an event in parts once, with all rows", () => {
    const stream = { url: "http://localhost:8000/x", events: ["risk_measure"], lastId: "" };
    const handlers = {};
    class EventSource {
        addEventListener(name, handler) {
            handlers[name] = handler;
        }
    }
    const printed = [];
    const console = { log: (...words) => printed.push(words) };
    new Function("EventSource", "console", snippet("javascript", stream))(EventSource, console);
    const [first, ...rest] = measureInParts("AX_1");
    for (const { data, id } of [first, first, ...rest])
        handlers.risk_measure({ data, lastEventId: id ?? "before" });
    assert.equal(printed.length, 1);
    assert.equal(printed[0][0], "AX_1");
    assert.deepEqual(printed[0][1].data.estimates, HORIZONS);
});
