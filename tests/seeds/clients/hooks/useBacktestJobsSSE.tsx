import { useState } from "react";
import { type Data, useStream } from "./stream";

export function useBacktestJobsSSE({ token, statusFilter, limit = 10, enabled = true }: Data) {
  const [jobs, setJobs] = useState<Data[]>([]);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<string | null>(null);
  const query = new URLSearchParams({ token, limit: String(limit) });
  if (statusFilter) query.append("status_filter", statusFilter);
  const fail = (message: string) => {
    setError(message);
    setLoading(false);
  };
  useStream(
    enabled && token ? `/api/sse/backtest/jobs?${query}` : null,
    {
      connection: () => setLoading(false),
      snapshot: (data) => {
        setJobs(data.jobs);
        setLoading(false);
        setError(null);
      },
      job_added: ({ job }) => setJobs((before) => [job, ...before]),
      job_updated: ({ job }) =>
        setJobs((before) => before.map((each) => (each.job_id === job.job_id ? job : each))),
      job_removed: ({ job_id }) =>
        setJobs((before) => before.filter((each) => each.job_id !== job_id)),
    },
    () => fail("the stream of jobs reports an error"),
    () => fail("the stream of jobs has failed"),
  );
  return { jobs, loading, error };
}
