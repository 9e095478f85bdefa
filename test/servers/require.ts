/**
 * Servers and tools that tests use and npm does not bring. All come from packages of Debian 12.
 *
 * A lane whose tool is missing fails under `CI`, where everything has to be there. Elsewhere it is skipped. Both say the one line
 * that installs it.
 */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, test } from 'vitest';

interface Tool {
  /** The Debian package. `.ci/run` installs it. */
  readonly package: string;
  /** Where it may be: file names, looked for in the folders. */
  readonly file: string;
  readonly folders: readonly string[];
}

const LIBRARIES = ['x86_64', 'aarch64'].map((cpu) => `/usr/lib/${cpu}-linux-gnu/faketime`);

export const TOOLS = {
  /** One server, Sentinels and clusters. */
  redis: { package: 'redis-server', file: 'redis-server', folders: [] },
  /** One broker, and clusters. */
  rabbitmq: {
    package: 'rabbitmq-server',
    file: 'rabbitmq-server',
    folders: ['/usr/lib/rabbitmq/bin'],
  },
  /** One server, and ensembles. */
  zookeeper: {
    package: 'zookeeper default-jre-headless',
    file: 'zookeeper.jar',
    folders: ['/usr/share/java'],
  },
  /** Makes certificates. */
  openssl: { package: 'openssl', file: 'openssl', folders: [] },
  /** Checks models exhaustively. */
  spin: { package: 'spin gcc libc6-dev', file: 'spin', folders: [] },
  /** Sets the clock of one process. */
  faketime: { package: 'faketime', file: 'libfaketime.so.1', folders: LIBRARIES },
} as const satisfies Record<string, Tool>;

/** Tests that need a tool: they get its path. */
export function lane(name: string, tool: Tool, tests: (path: string) => void): void {
  const onPath = (process.env['PATH'] ?? '').split(delimiter);
  const path = [...tool.folders, ...onPath]
    .map((folder) => join(folder, tool.file))
    .find((candidate) => existsSync(candidate));
  if (path !== undefined) {
    describe(name, () => tests(path));
    return;
  }
  const reason = `${tool.file} is missing: apt-get install -y ${tool.package}`;
  if (process.env['CI']) {
    test(name, () => {
      throw new Error(reason);
    });
    return;
  }
  process.stderr.write(`skipped: ${name}: ${reason}\n`);
  test.skip(`${name} (${reason})`);
}
