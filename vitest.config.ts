import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Tests wait much, for servers and for leases that end, and each file has processes of its own.
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
