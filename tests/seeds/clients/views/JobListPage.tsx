import { useBacktestJobsSSE } from "@/hooks/useBacktestJobsSSE";

declare const useAuth: () => { token: string };
declare const JobCard: (props: { job: any }) => any;

export function JobListPage() {
  const { token } = useAuth();
  const { jobs, loading, error } = useBacktestJobsSSE({ token, statusFilter: "running" });
  if (loading) return <p>Loading jobs</p>;
  if (error) return <p>Error: {error}</p>;
  return jobs.map((job) => <JobCard key={job.job_id} job={job} />);
}
