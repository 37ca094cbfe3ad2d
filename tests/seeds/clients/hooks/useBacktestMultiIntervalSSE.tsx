import { useEffect, useState } from "react";
import type { Data } from "./stream";

export function useBacktestMultiIntervalSSE({
  id,
  intervals,
  token,
  limit = 1000,
  enabled = true,
}: Data) {
  const [dataByInterval, setDataByInterval] = useState<Record<string, Data[]>>({});
  const [loading, setLoading] = useState<Record<string, boolean>>({});
  const [error, setError] = useState<string | null>(null);
  const names: string = intervals.join(",");
  useEffect(() => {
    if (!enabled || !token || !id || !names) return;
    const sources = names.split(",").map((interval) => {
      const isLoading = (value: boolean) =>
        setLoading((before) => ({ ...before, [interval]: value }));
      const fail = (message: string) => {
        setError(message);
        isLoading(false);
      };
      isLoading(true);
      setDataByInterval((before) => ({ ...before, [interval]: [] }));
      const query = new URLSearchParams({ interval, limit: String(limit), token });
      const source = new EventSource(`/api/sse/backtest/${id}/data?${query}`);
      source.addEventListener("interval_start", () => {
        isLoading(true);
        setDataByInterval((before) => ({ ...before, [interval]: [] }));
      });
      source.addEventListener("data_chunk", (event) => {
        const { data_points } = JSON.parse(event.data);
        setDataByInterval((before) => ({
          ...before,
          [interval]: [...before[interval], ...data_points],
        }));
      });
      source.addEventListener("complete", () => isLoading(false));
      source.addEventListener("error", (event) => {
        const { data } = event as MessageEvent;
        if (data) fail(JSON.parse(data).message);
      });
      source.onerror = () => fail(`the stream of ${interval} bars has failed`);
      return source;
    });
    return () => sources.forEach((source) => source.close());
  }, [id, names, token, limit, enabled]);
  return { dataByInterval, loading, error };
}
