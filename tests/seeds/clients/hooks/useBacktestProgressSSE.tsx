import { useState } from "react";
import { type Data, useStream } from "./stream";

export function useBacktestProgressSSE({ jobId, token, enabled = true }: Data) {
  const [progress, setProgress] = useState<Data | null>(null);
  const [transactions, setTransactions] = useState<Data[]>([]);
  const [result, setResult] = useState<Data | null>(null);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<string | null>(null);
  const update = (changes: Data) => setProgress((before) => before && { ...before, ...changes });
  const fail = (message: string) => {
    setError(message); // it is never taken back: a job whose connection ends shows an error
    setLoading(false);
  };
  useStream(
    enabled && token && jobId ? `/api/sse/backtest/${jobId}?token=${token}` : null,
    {
      connection: () => setLoading(false),
      progress: setProgress,
      transaction: (data) => setTransactions((before) => [...before, ...data.transactions]),
      completed: (data) => {
        setResult(data.result_summary);
        update({ status: "completed", progress: 100 });
      },
      failed: (data) => {
        setError(data.error_message);
        update({ status: "failed" });
      },
      cancelled: () => update({ status: "cancelled" }),
    },
    () => fail("the job reports an error"),
    () => fail("the stream of the job has failed"),
  );
  return { progress, transactions, result, loading, error };
}
