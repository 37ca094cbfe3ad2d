import { useState } from "react";
import { type Data, useStream } from "./stream";

export function useBacktestHistorySSE({ token, limit = 10, enabled = true }: Data) {
  const [backtests, setBacktests] = useState<Data[]>([]);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<string | null>(null);
  const fail = (message: string) => {
    setError(message);
    setLoading(false);
  };
  useStream(
    enabled && token ? `/api/sse/backtest/history?token=${token}&limit=${limit}` : null,
    {
      connection: () => setLoading(false),
      snapshot: (data) => {
        setBacktests(data.backtests);
        setLoading(false);
        setError(null);
      },
      backtest_added: ({ backtest }) => setBacktests((before) => [backtest, ...before]),
      backtest_updated: ({ backtest }) =>
        setBacktests((before) =>
          before.map((each) => (each.backtest_id === backtest.backtest_id ? backtest : each)),
        ),
    },
    () => fail("the history reports an error"),
    () => fail("the history has failed"),
  );
  return { backtests, loading, error };
}
