import { onMounted, onUnmounted, ref } from "vue";

export function useBacktestProgress(backtestId: string) {
  const progress = ref(0);
  const status = ref("");
  const currentDate = ref("");
  const results = ref<Record<string, number> | null>(null);
  const isConnected = ref(false);
  let source: EventSource | undefined;
  onMounted(() => {
    source = new EventSource(
      `http://localhost:8000/api/v1/sse/backtest?client_id=backtest-${backtestId}`,
    );
    source.addEventListener("connected", () => (isConnected.value = true));
    source.addEventListener("backtest_progress", (event) => {
      const { data } = JSON.parse(event.data);
      progress.value = data.progress;
      status.value = data.status;
      currentDate.value = data.current_date;
      results.value = data.results ?? results.value;
    });
  });
  onUnmounted(() => source?.close());
  return { progress, status, currentDate, results, isConnected };
}
