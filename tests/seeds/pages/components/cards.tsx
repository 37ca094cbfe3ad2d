// What the components of the clients' pages show; a test reads it.
export const JobCard = ({ job }: any) => (
  <p data-job={job.job_id} data-status={job.status}>
    {job.symbol}
  </p>
);
export const BacktestCard = ({ backtest }: any) => (
  <p data-backtest={backtest.backtest_id} data-status={backtest.status}>
    {backtest.symbol}
  </p>
);
export const ProgressBar = ({ value }: any) => <progress max="100" value={value} />;
export const StatusBadge = ({ status }: any) => <b data-badge={status}>{status}</b>;
export const TransactionList = ({ transactions }: any) => <i data-orders={transactions.length} />;
export const ResultsSummary = ({ result }: any) => (
  <p data-trades={result.number_of_trades}>{result.total_return}</p>
);
export const Chart = ({ data }: any) => (
  <svg data-points={data.length} data-times={new Set(data.map((bar: any) => bar.time)).size} />
);
export const Spinner = () => <p>Loading</p>;
export const ErrorMessage = ({ error }: any) => <p>Error: {error}</p>;
