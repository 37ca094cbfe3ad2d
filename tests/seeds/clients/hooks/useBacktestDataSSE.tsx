import { useState } from "react";
import { type Data, useStream } from "./stream";

export function useBacktestDataSSE({ id, interval, token, limit = 1000, enabled = true }: Data) {
  const [data, setData] = useState<Data[]>([]);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<string | null>(null);
  const [progress, setProgress] = useState({ points_sent: 0, total_points: 0 });
  const fail = (message: string) => {
    setError(message);
    setLoading(false);
  };
  useStream(
    enabled && token && id && interval
      ? `/api/sse/backtest/${id}/data?interval=${interval}&limit=${limit}&token=${token}`
      : null,
    {
      interval_start: ({ total_points }) => {
        setData([]);
        setLoading(true);
        setProgress({ points_sent: 0, total_points });
      },
      data_chunk: ({ data_points, points_sent, total_points }) => {
        setData((before) => [...before, ...data_points]);
        setProgress({ points_sent, total_points });
      },
      complete: ({ total_points }) => {
        setLoading(false);
        setProgress((before) => ({ ...before, points_sent: total_points }));
      },
    },
    (event) => event.data && fail(JSON.parse(event.data).message),
    () => fail("the stream of bars has failed"),
  );
  return { data, loading, error, progress };
}
