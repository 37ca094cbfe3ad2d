import { useBacktestDataSSE } from "@/hooks/useBacktestDataSSE";

declare const useAuth: () => { token: string };
declare const Chart: (props: { data: any[] }) => any;

export function ChartComponent({ backtestId, interval }: Record<string, string>) {
  const { token } = useAuth();
  const { data, loading, error, progress } = useBacktestDataSSE({
    id: backtestId,
    interval,
    token,
  });
  if (loading) {
    return (
      <p>
        Loading {progress.points_sent} of {progress.total_points}
      </p>
    );
  }
  if (error) return <p>Error: {error}</p>;
  return <Chart data={data} />;
}
