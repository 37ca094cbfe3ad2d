import { useBacktestHistorySSE } from "@/hooks/useBacktestHistorySSE";

declare const useAuth: () => { token: string };
declare const BacktestCard: (props: { backtest: any }) => any;

export function HistoryPage() {
  const { token } = useAuth();
  const { backtests, loading, error } = useBacktestHistorySSE({ token });
  if (loading) return <p>Loading history</p>;
  if (error) return <p>Error: {error}</p>;
  return backtests.map((backtest) => <BacktestCard key={backtest.id} backtest={backtest} />);
}
