import { useBacktestProgressSSE } from "@/hooks/useBacktestProgressSSE";

declare const useAuth: () => { token: string };
declare const ProgressBar: (props: { value: number }) => any;
declare const StatusBadge: (props: { status?: string }) => any;
declare const TransactionList: (props: { transactions: any[] }) => any;
declare const ResultsSummary: (props: { result: any }) => any;

export function JobDetailPage({ jobId }: { jobId: string }) {
  const { token } = useAuth();
  const { progress, transactions, result, loading, error } = useBacktestProgressSSE({
    jobId,
    token,
  });
  if (loading) return <p>Loading progress</p>;
  if (error) return <p>Error: {error}</p>;
  return (
    <>
      <ProgressBar value={progress?.progress ?? 0} />
      <StatusBadge status={progress?.status} />
      <TransactionList transactions={transactions} />
      {result && <ResultsSummary result={result} />}
    </>
  );
}
