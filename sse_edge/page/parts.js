// Events that come in parts, because they are too large for one frame, as one again. Pure.
//
// All parts have the event's members; of each list, a part has a slice. Only the last part has the
// id, so a connection that is lost between two parts resumes with the first one.

/**
 * Return a handler of frames that calls another one with whole events.
 * @param {(frame: object) => void} onFrame gets one frame, with the last part's id, for all parts
 */
export function joined(onFrame) {
  let parts = [];
  return (frame) => {
    const envelope = partOf(frame);
    if (envelope === null) {
      onFrame(frame);
      return;
    }
    if (envelope.part === 1) parts = [];
    if (envelope.part !== parts.length + 1) return; // its first parts have not been seen
    parts.push(envelope.data);
    if (envelope.part < envelope.parts) return;
    const data = withAllRows(envelope.data, parts);
    parts = [];
    onFrame({ ...frame, data: JSON.stringify({ ...envelope, data }) });
  };
}

/** Return the envelope of a frame that is a part of an event; null if it is a whole one. */
export function partOf(frame) {
  if (!frame.data?.includes('"parts"')) return null;
  try {
    const envelope = JSON.parse(frame.data);
    return Number.isInteger(envelope?.part) && envelope.data ? envelope : null;
  } catch {
    return null;
  }
}

function withAllRows(last, parts) {
  const rows = Object.entries(last)
    .filter(([, value]) => Array.isArray(value))
    .map(([name]) => [name, parts.flatMap((data) => data[name])]);
  return { ...last, ...Object.fromEntries(rows) };
}
