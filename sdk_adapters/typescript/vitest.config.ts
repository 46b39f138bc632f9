import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["test/*.test.ts"], restoreMocks: true, pool: "threads", maxWorkers: 1, isolate: true, watch: false },
});
