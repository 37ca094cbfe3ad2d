// The stream of the debug view as a program in another language. Pure.

/** Return the path and query of a channel's stream. */
export function pathOf({ channel, parameter, entity, events, from }) {
  const query = new URLSearchParams();
  if (entity) query.set(parameter, entity);
  if (events) query.set("events", events);
  if (from && from !== "latest") query.set("from", from);
  const text = query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
  return `/api/v1/sse/${channel}${text ? `?${text}` : ""}`;
}

/**
 * Return the program that follows a stream, and resumes it where it stopped.
 * @param {"curl"|"javascript"|"python"} language
 * @param {{url: string, events: string[], lastId: string, hasToken: boolean}} stream
 */
export function snippet(language, stream) {
  return SNIPPETS[language](stream);
}

const quoted = (text) => JSON.stringify(text);
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The events that come in parts where they are too large for one. */
const IN_PARTS = new Set(["book_risk", "risk_measure"]);

const JOINED_JAVASCRIPT = `const before = []; // the data of an event's parts, until the last one has come
function joined(event) {
  const found = JSON.parse(event.data);
  if (!found.parts) return found;
  if (found.part === 1) before.length = 0; // a reconnect begins with the first part again
  before.push(found.data);
  if (found.part < found.parts) return null;
  for (const [name, value] of Object.entries(found.data))
    if (Array.isArray(value)) found.data[name] = before.flatMap((data) => data[name]);
  return found;
}`;

const JOINED_PYTHON = `before = []  # the data of an event's parts, until the last one has come


def joined(event):
    found = json.loads(event.data)
    if "parts" not in found:
        return found
    if found["part"] == 1:  # a reconnect begins with the first part again
        before.clear()
    before.append(found["data"])
    if found["part"] < found["parts"]:
        return None
    for name, value in found["data"].items():
        if isinstance(value, list):
            found["data"][name] = [row for data in before for row in data[name]]
    return found`;

const SNIPPETS = {
  curl({ url, lastId, hasToken }) {
    const parts = ["curl -N"];
    if (hasToken) parts.push('-H "Authorization: Bearer $TOKEN"');
    if (lastId) parts.push(`-H 'Last-Event-ID: ${lastId}'`);
    return [...parts, shell(url)].join(" \\\n  ");
  },

  javascript({ url, events, lastId, hasToken }) {
    const hasParts = events.some((name) => IN_PARTS.has(name));
    const lines = [`const url = new URL(${quoted(url)});`];
    if (hasToken)
      lines.push('url.searchParams.set("token", token); // EventSource sends no headers');
    if (lastId) lines.push(`url.searchParams.set("last_event_id", ${quoted(lastId)});`);
    lines.push("const source = new EventSource(url); // reconnects and resumes by itself");
    for (const name of events) {
      lines.push(`source.addEventListener(${quoted(name)}, (event) => {`);
      if (hasParts) lines.push("  const whole = joined(event);");
      if (hasParts) lines.push("  if (whole) console.log(event.lastEventId, whole);");
      else lines.push("  console.log(event.lastEventId, JSON.parse(event.data));");
      lines.push("});");
    }
    lines.push('source.addEventListener("gap", (event) => console.warn(event.data));');
    if (hasParts) lines.push("", JOINED_JAVASCRIPT);
    return lines.join("\n");
  },

  python({ url, events, lastId, hasToken }) {
    const hasParts = events.some((name) => IN_PARTS.has(name));
    const headers = [];
    if (hasToken) headers.push('"Authorization": f"Bearer {token}"');
    if (lastId) headers.push(`"Last-Event-ID": ${quoted(lastId)}`);
    return [
      ...(hasParts ? ["import json", ""] : []),
      "import httpx",
      "from httpx_sse import connect_sse",
      "",
      ...(hasParts ? [JOINED_PYTHON, "", ""] : []),
      `headers = {${headers.join(", ")}}`,
      "with httpx.Client(timeout=None) as client:",
      `    with connect_sse(client, "GET", ${quoted(url)}, headers=headers) as source:`,
      "        for event in source.iter_sse():",
      ...(hasParts
        ? [
            "            if event.data and (whole := joined(event)):",
            "                print(event.id, event.event, whole)",
          ]
        : ["            print(event.id, event.event, event.data)"]),
    ].join("\n");
  },
};
