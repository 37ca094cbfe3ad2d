// What the hooks share: an EventSource that is opened with the hook and closed with it, a listener
// for each event, a listener for `error`, and an `onerror` handler. Both of the latter are called
// for an event `error` from the server, and also whenever the connection ends.
import { useEffect } from "react";

export type Data = Record<string, any>;
export type Listeners = Record<string, (data: Data) => void>;

export function useStream(
  url: string | null,
  listeners: Listeners,
  onErrorEvent: (event: MessageEvent) => void,
  onError: () => void,
) {
  useEffect(() => {
    if (url === null) return;
    const source = new EventSource(url);
    for (const [name, listener] of Object.entries(listeners)) {
      source.addEventListener(name, (event) => {
        listener(event.data === undefined ? {} : JSON.parse(event.data));
      });
    }
    source.addEventListener("error", onErrorEvent as EventListener);
    source.onerror = onError;
    return () => source.close();
  }, [url]);
}
