import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Most of the time tests wait, for servers and for leases that end: more files at once than processors.
    maxWorkers: 3,
    // Node itself loads the built package, as it would for a user: vitest rewrites the tests only.
    server: { deps: { external: [/\/dist\//] } },
    coverage: {
      provider: 'v8',
      include: ['dist/src/**/*.js'],
      reporter: ['text', 'html'],
    },
  },
});
