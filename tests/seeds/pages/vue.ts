// A Vue page that shows what the composable of a backtest knows.
import { createApp, defineComponent, h } from "vue";
import { useBacktestProgress } from "@/hooks/useBacktestProgress";

const Page = defineComponent({
  setup() {
    const { progress, status, currentDate, results, isConnected } = useBacktestProgress("b-1");
    return () =>
      h("p", {
        "data-connected": isConnected.value,
        "data-progress": progress.value,
        "data-status": status.value,
        "data-date": currentDate.value,
        "data-results": JSON.stringify(results.value),
      });
  },
});

createApp(Page).mount(document.body.appendChild(document.createElement("section")));
