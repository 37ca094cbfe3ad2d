import { useCallback, useEffect, useRef, useState } from "react";
import type { Data } from "./stream";

// Reconnects by itself where the browser does not; `handlers` must stay the same object.
export function useSSE({
  url,
  handlers,
  enabled = true,
  reconnectInterval = 5000,
  maxReconnectAttempts = 5,
}: Data) {
  const [connected, setConnected] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const current = useRef<EventSource | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const attempts = useRef(0);
  const disconnect = useCallback(() => {
    clearTimeout(timer.current);
    current.current?.close();
    current.current = null;
    setConnected(false);
  }, []);
  const reconnect = useCallback(() => {
    if (!enabled) return;
    current.current?.close();
    const source = (current.current = new EventSource(url));
    for (const [name, handler] of Object.entries(handlers as Record<string, (data: any) => void>)) {
      source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
    }
    source.addEventListener("connection", () => {
      attempts.current = 0;
      setConnected(true);
      setError(null);
    });
    source.onerror = () => {
      setConnected(false);
      if (source.readyState !== EventSource.CLOSED) return;
      attempts.current += 1;
      if (attempts.current > maxReconnectAttempts) {
        setError("gave up");
        return;
      }
      setError(`attempt ${attempts.current} of ${maxReconnectAttempts}`);
      timer.current = setTimeout(reconnect, reconnectInterval);
    };
  }, [url, enabled, handlers, reconnectInterval, maxReconnectAttempts]);
  useEffect(() => {
    reconnect();
    return disconnect;
  }, [reconnect, disconnect]);
  return { connected, error, disconnect, reconnect };
}
