import { useState } from "react";
import { ErrorMessage } from "@/components/ErrorMessage";
import { JobCard } from "@/components/JobCard";
import { Spinner } from "@/components/Spinner";
import { useAuth } from "@/hooks/useAuth";
import { useBacktestJobsSSE } from "@/hooks/useBacktestJobsSSE";

export function BacktestJobsPage() {
  const { token } = useAuth();
  const [statusFilter, setStatusFilter] = useState<string | undefined>();
  const { jobs, loading, error } = useBacktestJobsSSE({ token, statusFilter });
  return (
    <main>
      <button onClick={() => setStatusFilter(undefined)}>All</button>
      <button onClick={() => setStatusFilter("running")}>Running</button>
      <button onClick={() => setStatusFilter("completed")}>Completed</button>
      {loading && <Spinner />}
      {error && <ErrorMessage error={error} />}
      {jobs.map((job) => (
        <JobCard key={job.job_id} job={job} />
      ))}
    </main>
  );
}
