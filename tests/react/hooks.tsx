// The hooks of a page about backtests, as clients of the backtest streams have them: each opens an
// EventSource, keeps what it is told in React's state, and closes it when it is unmounted.
import { useEffect, useState } from "react";

type Told = Record<string, any>;
type Listeners = Record<string, (data: Told) => void>;

function useStream(url: string | null, listeners: Listeners, failed: (why: string) => void) {
  useEffect(() => {
    if (!url) return;
    const source = new EventSource(url);
    for (const [name, heard] of Object.entries(listeners)) {
      source.addEventListener(name, (event) => heard(JSON.parse((event as MessageEvent).data)));
    }
    source.addEventListener("error", (event) => {
      const { data } = event as MessageEvent;
      failed(data ? JSON.parse(data).message : "Connection error");
    });
    return () => source.close();
  }, [url]);
}

export function useBacktestJobsSSE({ token, statusFilter, limit = 10 }: Told) {
  const [jobs, setJobs] = useState<Told[]>([]);
  const [error, setError] = useState<string | null>(null);
  const query = new URLSearchParams({ token, limit: String(limit) });
  if (statusFilter) query.append("status_filter", statusFilter);
  useStream(
    `/api/sse/backtest/jobs?${query}`,
    {
      snapshot: ({ jobs }) => {
        setJobs(jobs);
        setError(null);
      },
      job_added: ({ job }) => setJobs((known) => [job, ...known]),
      job_updated: ({ job }) =>
        setJobs((known) => known.map((one) => (one.job_id === job.job_id ? job : one))),
      job_removed: ({ job_id }) =>
        setJobs((known) => known.filter((one) => one.job_id !== job_id)),
    },
    setError,
  );
  return { jobs, error };
}

export function useBacktestHistorySSE({ token, limit = 10 }: Told) {
  const [backtests, setBacktests] = useState<Told[]>([]);
  const [error, setError] = useState<string | null>(null);
  useStream(
    `/api/sse/backtest/history?token=${token}&limit=${limit}`,
    {
      snapshot: ({ backtests }) => {
        setBacktests(backtests);
        setError(null);
      },
      backtest_added: ({ backtest }) => setBacktests((known) => [backtest, ...known]),
      backtest_updated: ({ backtest }) =>
        setBacktests((known) => known.map((one) => (one.id === backtest.id ? backtest : one))),
    },
    setError,
  );
  return { backtests, error };
}

export function useBacktestProgressSSE({ jobId, token }: Told) {
  const [progress, setProgress] = useState<Told | null>(null);
  const [transactions, setTransactions] = useState<Told[]>([]);
  const [result, setResult] = useState<Told | null>(null);
  const [error, setError] = useState<string | null>(null);
  const ended = (status: string) => setProgress((last) => last && { ...last, status });
  useStream(
    jobId ? `/api/sse/backtest/${jobId}?token=${token}` : null,
    {
      progress: setProgress,
      transaction: (data) => setTransactions((known) => [...known, ...data.transactions]),
      completed: (data) => {
        setResult(data.result_summary);
        ended("completed");
      },
      failed: (data) => {
        setError(data.error_message);
        ended("failed");
      },
      cancelled: () => ended("cancelled"),
    },
    setError,
  );
  return { progress, transactions, result, error };
}

export function useBacktestDataSSE({ id, interval, token, limit = 1000 }: Told) {
  const [data, setData] = useState<Told[]>([]);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<string | null>(null);
  const [progress, setProgress] = useState({ points_sent: 0, total_points: 0 });
  useStream(
    id ? `/api/sse/backtest/${id}/data?interval=${interval}&limit=${limit}&token=${token}` : null,
    {
      interval_start: ({ total_points }) => {
        setData([]);
        setLoading(true);
        setProgress({ points_sent: 0, total_points });
      },
      data_chunk: ({ data_points, points_sent, total_points }) => {
        setData((known) => [...known, ...data_points]);
        setProgress({ points_sent, total_points });
      },
      complete: () => setLoading(false),
    },
    setError,
  );
  return { data, loading, error, progress };
}
