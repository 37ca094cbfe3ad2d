import { useEffect, useRef, useState } from "react";

export function StreamingDemo() {
  const [events, setEvents] = useState<string[]>([]);
  const [isStreaming, setIsStreaming] = useState(false);
  const current = useRef<EventSource | null>(null);
  const show = (text: string) => setEvents((before) => [...before, text]);
  const stop = () => {
    current.current?.close();
    current.current = null;
    setIsStreaming(false);
  };
  const start = () => {
    if (current.current) return;
    setIsStreaming(true);
    setEvents([]);
    const source = (current.current = new EventSource("http://localhost:8004/process/stream"));
    source.onopen = () => show("connected");
    source.onmessage = (event) => {
      const data = JSON.parse(event.data);
      show(`${data.event}: ${event.data}`);
      if (data.event === "completed" || data.event === "error") stop();
    };
    source.onerror = () => {
      show("stream error");
      stop();
    };
  };
  useEffect(() => () => current.current?.close(), []);
  return (
    <div>
      <button onClick={start} disabled={isStreaming}>
        Start Stream
      </button>
      <button onClick={stop} disabled={!isStreaming}>
        Stop Stream
      </button>
      {events.map((text, index) => (
        <div key={index}>{text}</div>
      ))}
    </div>
  );
}
