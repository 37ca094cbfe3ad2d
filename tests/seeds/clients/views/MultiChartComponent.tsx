import { useBacktestMultiIntervalSSE } from "@/hooks/useBacktestMultiIntervalSSE";

declare const useAuth: () => { token: string };
declare const Chart: (props: { data: any[] }) => any;

const INTERVALS = ["day", "minute", "3minute"];

export function MultiChartComponent({ backtestId }: { backtestId: string }) {
  const { token } = useAuth();
  const { dataByInterval, loading } = useBacktestMultiIntervalSSE({
    id: backtestId,
    intervals: INTERVALS,
    token,
  });
  return INTERVALS.map((interval) => (
    <section key={interval}>
      <h3>{interval}</h3>
      {loading[interval] ? <p>Loading {interval}</p> : <Chart data={dataByInterval[interval] ?? []} />}
    </section>
  ));
}
