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

const SNIPPETS = {
  curl({ url, lastId, hasToken }) {
    const parts = ["curl -N"];
    if (hasToken) parts.push('-H "Authorization: Bearer $TOKEN"');
    if (lastId) parts.push(`-H 'Last-Event-ID: ${lastId}'`);
    return [...parts, shell(url)].join(" \\\n  ");
  },

  javascript({ url, events, lastId, hasToken }) {
    const lines = [`const url = new URL(${quoted(url)});`];
    if (hasToken)
      lines.push('url.searchParams.set("token", token); // EventSource sends no headers');
    if (lastId) lines.push(`url.searchParams.set("last_event_id", ${quoted(lastId)});`);
    lines.push("const source = new EventSource(url); // reconnects and resumes by itself");
    for (const name of events) {
      lines.push(`source.addEventListener(${quoted(name)}, (event) => {`);
      lines.push("  console.log(event.lastEventId, JSON.parse(event.data));", "});");
    }
    lines.push('source.addEventListener("gap", (event) => console.warn(event.data));');
    return lines.join("\n");
  },

  python({ url, lastId, hasToken }) {
    const headers = [];
    if (hasToken) headers.push('"Authorization": f"Bearer {token}"');
    if (lastId) headers.push(`"Last-Event-ID": ${quoted(lastId)}`);
    return [
      "import httpx",
      "from httpx_sse import connect_sse",
      "",
      `headers = {${headers.join(", ")}}`,
      "with httpx.Client(timeout=None) as client:",
      `    with connect_sse(client, "GET", ${quoted(url)}, headers=headers) as source:`,
      "        for event in source.iter_sse():",
      "            print(event.id, event.event, event.data)",
    ].join("\n");
  },
};
