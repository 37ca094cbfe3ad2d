// The pages of a client of backtests; `show(NAME, PROPERTIES)` mounts one of them.
import "@/globals";
import { version } from "react";
import { createRoot } from "react-dom/client";
import { useSSE } from "@/hooks/useSSE";
import { useSSE as useRetries } from "@/hooks/useRetries";
import { BacktestJobsPage } from "@/views/BacktestJobsPage";
import { ChartComponent } from "@/views/ChartComponent";
import { HistoryPage } from "@/views/HistoryPage";
import { JobDetailPage } from "@/views/JobDetailPage";
import { JobListPage } from "@/views/JobListPage";
import { MultiChartComponent } from "@/views/MultiChartComponent";

const ENDS: string[] = [];
const HANDLERS = { completed: (data: any) => ENDS.push(data.job_id) };

function GenericHook({ url }: { url: string }) {
  const { connected, error } = useSSE({ url, handlers: HANDLERS });
  return <p data-connected={connected}>{error && `Error: ${error}`}</p>;
}

function CountingHook({ url }: { url: string }) {
  const { error } = useRetries(url);
  return <p>{error && `Error: ${error.message}`}</p>;
}

const PAGES: Record<string, (props: any) => any> = {
  BacktestJobsPage,
  ChartComponent,
  CountingHook,
  GenericHook,
  HistoryPage,
  JobDetailPage,
  JobListPage,
  MultiChartComponent,
};

function show(name: string, properties: object = {}) {
  const Page = PAGES[name];
  const section = document.body.appendChild(document.createElement("section"));
  section.id = name;
  createRoot(section).render(<Page {...properties} />);
  return version;
}

Object.assign(globalThis, { show, ENDS });
