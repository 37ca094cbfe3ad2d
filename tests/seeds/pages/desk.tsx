// A page that shows everything that the hooks know, for whoever looks at its elements.
import { useState } from "react";
import { createRoot } from "react-dom/client";
import { useBacktestDataSSE } from "@/hooks/useBacktestDataSSE";
import { useBacktestHistorySSE } from "@/hooks/useBacktestHistorySSE";
import { useBacktestJobsSSE } from "@/hooks/useBacktestJobsSSE";
import { useBacktestProgressSSE } from "@/hooks/useBacktestProgressSSE";

const token = new URLSearchParams(location.search).get("token") ?? "";
const INTERVALS = ["minute", "3minute", "day"];

function Jobs() {
  const [statusFilter, setStatusFilter] = useState<string | undefined>();
  const { jobs, error } = useBacktestJobsSSE({ token, statusFilter, limit: 5 });
  return (
    <section id="jobs" data-filter={statusFilter ?? "all"} data-error={error}>
      {["running", "completed"].map((status) => (
        <button key={status} onClick={() => setStatusFilter(status)}>
          {status}
        </button>
      ))}
      {jobs.map((job) => (
        <p key={job.job_id} data-job={job.job_id} data-status={job.status}>
          {job.symbol} {job.progress}
        </p>
      ))}
    </section>
  );
}

function History() {
  const { backtests, error } = useBacktestHistorySSE({ token });
  return (
    <section id="history" data-error={error}>
      {backtests.map((backtest) => (
        <p key={backtest.id} data-backtest={backtest.backtest_id} data-status={backtest.status}>
          {backtest.symbol}
        </p>
      ))}
    </section>
  );
}

function Progress({ jobId }: { jobId: string }) {
  const { progress, transactions, result, error } = useBacktestProgressSSE({ jobId, token });
  return (
    <section
      id="progress"
      data-status={progress?.status}
      data-error={error}
      data-transactions={transactions.length}
      data-trades={result?.number_of_trades}
    >
      {progress?.message}
    </section>
  );
}

function Chart({ jobId, interval }: { jobId: string; interval: string }) {
  const { data, loading, error, progress } = useBacktestDataSSE({
    id: jobId,
    interval,
    token,
    limit: 10000,
  });
  const times = data.map((point) => point.time);
  return (
    <section
      data-interval={interval}
      data-loading={loading}
      data-error={error}
      data-points={data.length}
      data-different={new Set(times).size}
    >
      {interval}: {progress.points_sent} of {progress.total_points}
    </section>
  );
}

function Page() {
  const [jobId, setJobId] = useState("");
  const [charted, setCharted] = useState("");
  Object.assign(window, { follow: setJobId, chart: setCharted });
  return (
    <>
      <Jobs />
      <History />
      {jobId && <Progress key={jobId} jobId={jobId} />}
      {charted &&
        INTERVALS.map((interval) => <Chart key={interval} jobId={charted} interval={interval} />)}
    </>
  );
}

createRoot(document.getElementById("root")!).render(<Page />);
