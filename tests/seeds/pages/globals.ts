// The names that the pages of the clients use without importing them.
import * as React from "react";
import * as cards from "@/components/cards";
import { useAuth } from "@/hooks/useAuth";
import { useBacktestDataSSE } from "@/hooks/useBacktestDataSSE";
import { useBacktestHistorySSE } from "@/hooks/useBacktestHistorySSE";
import { useBacktestJobsSSE } from "@/hooks/useBacktestJobsSSE";
import { useBacktestMultiIntervalSSE } from "@/hooks/useBacktestMultiIntervalSSE";
import { useBacktestProgressSSE } from "@/hooks/useBacktestProgressSSE";

const { useCallback, useEffect, useRef, useState } = React;
Object.assign(globalThis, cards, {
  updateChart: () => undefined,
  useAuth,
  useBacktestDataSSE,
  useBacktestHistorySSE,
  useBacktestJobsSSE,
  useBacktestMultiIntervalSSE,
  useBacktestProgressSSE,
  useCallback,
  useEffect,
  useRef,
  useState,
});
